"""`headrace keys`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from gateway.scopes import Scope
from headrace.commands import GlobalContext
from headrace.errors import HeadraceError, UsageError
from headrace.output import console, print_error, print_json

if TYPE_CHECKING:
    from gateway.database import Database
    from headrace.context import Context
    from schemas.audit import AuditEvent

MAX_DAYS = 36_500

keys = App(name="keys", help="The API keys with which people and services get in at the gateway.")


@keys.command
async def create(
    name: str,
    *,
    tenant: str | None = None,
    scope: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = (),
    requests_per_second: float | None = None,
    days: float | None = None,
    context: GlobalContext,
) -> int:
    """Make a key, and print it: this once, because Headrace keeps only a digest of it.

    Example: `headrace keys create web --tenant acme --scope sessions:read --scope sessions:write`

    Parameters
    ----------
    name
        What it is for, or whose it is; shown in lists and in the audit log.
    tenant
        The tenant it belongs to: it gets at sessions whose id begins with `TENANT:`. Without one, it is an operator's
        key, which gets at all of them.
    scope
        What it may be used for; may be repeated; by default sessions:read and sessions:write. There are also
        audit:read, stats:read, dead-letters:read and dead-letters:write.
    requests_per_second
        How many requests it may send; by default as the setting gateway.requests_per_second says.
    days
        It expires after so many days; by default never.
    """
    from gateway.key_making import NewKey, create_key
    from headrace.audit import act_of_command
    from schemas.audit import Act

    if requests_per_second is not None and not requests_per_second > 0:
        raise UsageError("expected --requests-per-second to be more than 0")
    if days is not None and not 0 < days <= MAX_DAYS:
        raise UsageError(f"expected --days to be more than 0, and at most {MAX_DAYS}")
    unknown = sorted(set(scope) - set(Scope))
    if unknown:
        raise UsageError(f"expected --scope to be one of {', '.join(Scope)}, got {', '.join(unknown)}")
    scopes = tuple(Scope(one) for one in sorted(set(scope))) or (Scope.SESSIONS_READ, Scope.SESSIONS_WRITE)
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    new = NewKey(
        name=name, tenant=tenant, scopes=scopes, requests_per_second=requests_per_second, expires_at=expires_at
    )
    async with _database(context) as database:
        try:
            key_id, key = await create_key(database, new)
        except ValueError as error:
            raise UsageError(str(error)) from None
    if context.json:
        print_json(
            {"id": key_id, "key": key, "name": name, "tenant": tenant, "scopes": scopes, "expires_at": expires_at}
        )
    else:
        console().print(key, markup=False)
        print_error("keep it: it is not shown again. Use it as `Authorization: Bearer KEY`")
    act = act_of_command(Act.KEY_CREATED, key_id=key_id, tenant=tenant, name=name, scopes=[str(one) for one in scopes])
    await _audit(context, act)
    return 0


@keys.command(name="list")
async def list_(*, context: GlobalContext) -> int:
    """Show all keys, the newest first; the keys themselves are kept nowhere.

    Example: `headrace keys list`
    """
    from gateway.key_making import list_keys

    async with _database(context) as database:
        listed = await list_keys(database)
    if context.json:
        for key in listed:
            print_json(key)
        return 0
    from rich.markup import escape
    from rich.table import Table

    table = Table("id", "name", "tenant", "scopes", "last used", "state", header_style="bold", box=None)
    for key in listed:
        if key.revoked_at is not None:
            state = f"revoked {key.revoked_at:%Y-%m-%d %H:%M}"
        elif key.expires_at is not None:
            verb = "expired" if key.expires_at <= datetime.now(UTC) else "expires"
            state = f"{verb} {key.expires_at:%Y-%m-%d %H:%M}"
        else:
            state = "in force"
        used = "never" if key.last_used_at is None else f"{key.last_used_at:%Y-%m-%d %H:%M}"
        table.add_row(key.id, escape(key.name), key.tenant or "(operator)", " ".join(key.scopes), used, state)
    console().print(table)
    return 0


@keys.command
async def revoke(id: str, *, context: GlobalContext) -> int:
    """End a key: within five seconds no gateway takes it, and its open streams are ended.

    Example: `headrace keys revoke 0123456789abcdef`

    Parameters
    ----------
    id
        The key's id, as `headrace keys list` shows it.
    """
    from gateway.key_making import revoke_key
    from headrace.audit import act_of_command
    from schemas.audit import Act

    async with _database(context) as database:
        try:
            tenant = await revoke_key(database, id)
        except LookupError as error:
            raise HeadraceError(f"{error.args[0]}: `headrace keys list` shows those there are") from None
    if context.json:
        print_json({"revoked": id})
    else:
        console().print(f"{id} is revoked.", markup=False)
    await _audit(context, act_of_command(Act.KEY_REVOKED, key_id=id, tenant=tenant))
    return 0


@asynccontextmanager
async def _database(context: "Context") -> "AsyncIterator[Database]":
    from gateway.database import Database
    from gateway.problems import Problem
    from projections.migrations import require_migrated
    from runtime.stores import postgres_url

    url = postgres_url(context.client_settings())
    await require_migrated(url)
    database = Database(url)
    await database.start()
    try:
        yield database
    except Problem as problem:
        raise HeadraceError(problem.detail) from None
    finally:
        await database.close()


async def _audit(context: "Context", act: "AuditEvent") -> None:
    """What was done is done, also where no broker can be told."""
    from headrace.audit import audit

    try:
        await audit(context.client_settings(), act)
    except HeadraceError as error:
        print_error(f"done, but not written to audit-events: {error}")
