"""`headrace quarantine`."""

import sys
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import App, Parameter

from headrace.commands import GlobalContext
from headrace.errors import HeadraceError, UsageError
from headrace.output import console, print_json

if TYPE_CHECKING:
    from headrace.context import Context
    from headrace.quarantine.standing import Quarantine, Resent

Flag = Annotated[bool, Parameter(negative="", show_default=False)]

quarantine = App(
    name="quarantine",
    help="Sessions that were set apart after an error of the core: see them, and let them go on once it is corrected.",
)


class NotQuarantinedError(HeadraceError):
    """A session that was named is in no quarantine. Nothing was sent."""


@quarantine.command(name="list")
async def list_(*, cause: str | None = None, context: GlobalContext) -> int:
    """List the sessions that are quarantined, since when, and by which fact.

    `headrace dlq show FACT` shows the fact itself; `turned away` counts messages that nobody has sent again.

    Example: `headrace quarantine list`

    Parameters
    ----------
    cause
        Only those whose cause has this text in it, such as OverflowError.
    """
    found = await _found(context, cause)
    if context.json:
        for one in found:
            print_json(msgspec.to_builtins(one))
    elif found:
        _print_table(found)
    else:
        console().print("No session is quarantined.")
    return 0


@quarantine.command
async def release(
    *sessions: str,
    all_: Annotated[bool, Parameter(name="--all", negative="", show_default=False)] = False,
    cause: str | None = None,
    reason: str = "",
    resend: Flag = False,
    yes: Flag = False,
    context: GlobalContext,
) -> int:
    """Lift the quarantine of sessions, after workers with a corrected core were deployed.

    A session whose core fails on the same fact again is quarantined again, and says so.

    Example: `headrace quarantine release --all --cause OverflowError --reason "fixed in 1.4" --resend`

    Parameters
    ----------
    sessions
        As `headrace quarantine list` shows them; or --all.
    all_
        All that are quarantined, or all of a --cause.
    cause
        With --all: those whose cause has this text in it.
    reason
        Why, for the session's log.
    resend
        Also send again the messages that were turned away; see `headrace quarantine resend`.
    yes
        Do not ask before all are released.
    """
    from headrace.quarantine.release import release as lift
    from headrace.quarantine.release import resend as send_again

    if bool(sessions) == all_ or (cause is not None and not all_):
        raise UsageError("expected the sessions to release, or --all, which can be narrowed with --cause")
    found = await _found(context, cause)
    unknown = sorted(set(sessions) - {one.session_id for one in found})
    if unknown:
        raise NotQuarantinedError(f"not quarantined, so nothing was sent: {', '.join(unknown)}")
    chosen = found if all_ else [one for one in found if one.session_id in sessions]
    if all_ and chosen and not yes:
        _ask(chosen)
    settings = context.client_settings()
    await lift(settings, chosen, reason)
    for one in chosen:
        if context.json:
            print_json({"released": one.session_id, "id": one.release_id})
        else:
            console().print(f"released {one.session_id}", markup=False)
    if resend:
        _tell_resent(context, await send_again(settings, [one.session_id for one in chosen]))
    elif not context.json and (away := sum(one.turned_away for one in chosen)):
        console().print(f"{away} messages were turned away: `headrace quarantine resend SESSION` sends them again")
    return 0


@quarantine.command
async def resend(*sessions: str, context: GlobalContext) -> int:
    """Send again the messages that these sessions turned away while they were quarantined, in their order.

    A message keeps its end, `turn_failed`; what is sent again has another id, the place of the fact that it was, so
    that it is answered once, however often this is called.

    Example: `headrace quarantine resend s1`

    Parameters
    ----------
    sessions
        Sessions that were released.
    """
    from headrace.quarantine.release import resend as send_again

    if not sessions:
        raise UsageError("expected the sessions, as in `headrace quarantine resend s1`")
    _tell_resent(context, await send_again(context.client_settings(), list(dict.fromkeys(sessions))))
    return 0


async def _found(context: "Context", cause: str | None) -> "list[Quarantine]":
    from headrace.quarantine.release import list_quarantines

    found = await list_quarantines(context.client_settings())
    return [one for one in found if cause is None or cause in one.cause]


def _ask(chosen: "list[Quarantine]") -> None:
    if not sys.stdin.isatty():
        raise UsageError("expected --yes, as there is nobody to ask; `headrace quarantine list` shows the sessions")
    print(f"Release {len(chosen)} sessions? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise UsageError("nothing was released")


def _tell_resent(context: "Context", sent: "list[Resent]") -> None:
    for one in sent:
        if context.json:
            print_json({"resent": one.message.message_id, "session_id": one.message.session_id, "id": one.id})
        else:
            console().print(
                f"sent {one.message.message_id} of {one.message.session_id} again as {one.id}", markup=False
            )


def _print_table(found: "list[Quarantine]") -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("session", "since", "fact", "type", "turned away", "cause", header_style="bold", box=None)
    for one in found:
        cells = (
            one.session_id,
            f"{one.since:%Y-%m-%d %H:%M:%S}",
            one.fact,
            one.fact_type,
            str(one.turned_away),
            one.cause,
        )
        table.add_row(*(escape(cell) for cell in cells))
    console().print(table)
