"""`headrace gateway`."""

from typing import TYPE_CHECKING

from headrace.commands import GlobalContext
from headrace.output import print_error

if TYPE_CHECKING:
    from runtime.settings import Settings


def gateway(
    *, host: str | None = None, port: int | None = None, open: bool | None = None, context: GlobalContext
) -> int:
    """Let people and services in over HTTP, until it is stopped (Ctrl-C, SIGTERM).

    It needs the brokers, PostgreSQL (after `headrace migrate`) and Redis; any number may run. A stopped gateway takes
    nothing new, ends its streams, whose readers go on with another one, and lets running requests end.

    Example: `headrace gateway --host 0.0.0.0 --port 8088`, after `headrace keys create`

    Parameters
    ----------
    host
        The address to listen on; by default 127.0.0.1.
    port
        The port; by default 8088.
    open
        Let everybody on this machine in without a key; only with a loopback address.
    """
    from dataclasses import replace

    import uvloop

    from agents.catalog import AgentsFileError
    from gateway.run import run_gateway
    from headrace.errors import HeadraceError
    from runtime.log import setup_logging

    given = {name: value for name, value in (("host", host), ("port", port), ("open", open)) if value is not None}
    settings = replace(context, options={**context.options, **({"gateway": given} if given else {})}).client_settings()
    setup_logging(settings)
    uvloop.run(_require_migrated(settings))
    try:
        uvloop.run(run_gateway(settings))
    except AgentsFileError as error:
        raise HeadraceError(str(error)) from None
    except OSError as error:
        where = f"{settings.gateway.host}, port {settings.gateway.port}"
        raise HeadraceError(f"cannot listen on {where} ({error}): give another --host or --port") from None
    return 0


async def _require_migrated(settings: "Settings") -> None:
    """A database that is away is waited for later; one that lacks a table never gets it by waiting."""
    from projections.errors import StoreUnavailableError
    from projections.migrations import require_migrated
    from runtime.stores import postgres_url

    try:
        await require_migrated(postgres_url(settings))
    except StoreUnavailableError as error:
        print_error(f"{error}: the gateway starts all the same, and answers 503 until it is there")
