"""`headrace dlq`."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import App, Parameter

from headrace.commands import GlobalContext
from headrace.errors import UsageError
from headrace.output import console, print_json

if TYPE_CHECKING:
    from headrace.dead_letters import Selection
    from schemas.dead_letter import DeadLetter

MAX_ERROR_CHARACTERS = 100
Flag = Annotated[bool, Parameter(negative="", show_default=False)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Which:
    """Which dead letters: those to which everything applies that is given."""

    cause: Annotated[str | None, Parameter(help="Those of this cause: not_json, not_valid, wrong_key, …")] = None
    topic: Annotated[str | None, Parameter(help="Those of this topic.")] = None
    session: Annotated[str | None, Parameter(help="Those of this session.")] = None
    since: Annotated[
        str | None,
        Parameter(help="Those from then on: a time (2026-05-01T12:00:00Z), or how long ago (30m, 2h, 3d)."),
    ] = None
    until: Annotated[str | None, Parameter(help="Those from before.")] = None

    def selection(self) -> "Selection":
        """The same with times; raises `UsageError` where one is none."""
        from headrace.dead_letters.letters import Selection, parse_time

        now = datetime.now(UTC)
        return Selection(
            cause=self.cause,
            topic=self.topic,
            session=self.session,
            since=parse_time(self.since, "--since", now),
            until=parse_time(self.until, "--until", now),
        )


EVERY = Which()
dlq = App(name="dlq", help="Look at the records that could not be processed, and send them again.")


@dlq.command(name="list")
async def list_(
    *,
    limit: int = 100,
    which: Which = EVERY,
    context: GlobalContext,
) -> int:
    """List the dead letters, the newest last.

    Example: `headrace dlq list --cause not_valid --since 2h`

    Parameters
    ----------
    limit
        Show at most so many, the newest.
    """
    from headrace.dead_letters import list_dead_letters

    chosen = which.selection()
    shown = (await list_dead_letters(context.client_settings(), chosen))[-limit:]
    if context.json:
        for letter in shown:
            print_json(as_object(letter))
    elif shown:
        _print_table(shown)
    else:
        console().print("No dead letters." if chosen.is_empty else "No such dead letters.")
    return 0


@dlq.command
async def show(id: str, *, context: GlobalContext) -> int:
    """Show one dead letter: the record, where it came from, why it failed, and what became of it.

    Example: `headrace dlq show user-messages/3/17`

    Parameters
    ----------
    id
        As `headrace dlq list` shows it.
    """
    from headrace.dead_letters import list_dead_letters
    from headrace.dead_letters.history import ended, replays
    from headrace.dead_letters.letters import find_among
    from schemas.causation import causation

    settings = context.client_settings()
    letters = await list_dead_letters(settings)
    letter = find_among(letters, id)
    again = (await replays(settings, [letter])).get(id, [])
    told = [msgspec.structs.replace(one, ended=await ended(settings, letters, one)) for one in again]
    shown = as_object(letter)
    shown["causation"] = msgspec.to_builtins(causation(letter))
    shown["replays"] = msgspec.to_builtins(told)
    if context.json:
        print_json(shown)
        return 0
    for name, value in shown.items():
        console().print(f"[cyan]{name:>10}[/] ", end="")
        console().print(value if isinstance(value, str) else msgspec.json.encode(value).decode(), markup=False)
    return 0


@dlq.command
async def replay(
    *ids: str,
    edit: Flag = False,
    value: Path | None = None,
    which: Which = EVERY,
    dry_run: Flag = False,
    yes: Flag = False,
    context: GlobalContext,
) -> int:
    """Send the original records again to their topics, with the header `headrace-replay-of`.

    Correct first what made them fail. Those that are named are sent as they are; of those that are selected, what would
    be refused again stays. What was sent again before is left out, and a command without an id keeps the one of its
    first delivery: replaying twice changes nothing, and one that was interrupted goes on when it is run again.

    Example: `headrace dlq replay --cause no_such_agent --since 2h --dry-run`

    Parameters
    ----------
    ids
        As `headrace dlq list` shows them; or select them with the options below.
    edit
        Change the record's value in $EDITOR first; it is checked before it is sent, and marked as edited.
    value
        Send what is in this file as the value; checked and marked as with --edit.
    dry_run
        Only say what would be sent, and what not and why.
    yes
        Do not ask before what was selected is sent.
    """
    from headrace.commands.dlq_replay import replay_edited, replay_many

    chosen = which.selection()
    if edit or value is not None:
        if len(ids) != 1 or not chosen.is_empty or (edit and value is not None):
            raise UsageError("expected one id with --edit or --value FILE, as in `headrace dlq replay ID --edit`")
        return await replay_edited(context, ids[0], value, dry_run=dry_run)
    if bool(ids) == (not chosen.is_empty):
        raise UsageError(
            "expected either ids, or what to select them by: --cause, --topic, --session, --since, --until"
        )
    return await replay_many(context, ids, chosen, dry_run=dry_run, yes=yes)


def as_object(letter: "DeadLetter") -> dict[str, Any]:
    """Bytes as text: a person looks for a word in them, and `headrace tail dead-letters` has them in base64."""

    def text(value: bytes | None) -> str | None:
        return None if value is None else value.decode(errors="replace")

    fields = {name: value for name, value in msgspec.structs.asdict(letter).items() if name not in ("key", "value")}
    fields["headers"] = {name: text(value) for name, value in letter.headers}
    return fields | {"key": text(letter.key), "value": text(letter.value)}


def _print_table(letters: "list[DeadLetter]") -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("id", "at", "cause", "session", "error", header_style="bold", box=None)
    for letter in letters:
        error = letter.error if len(letter.error) <= MAX_ERROR_CHARACTERS else letter.error[:MAX_ERROR_CHARACTERS] + "…"
        cells = (letter.id, f"{letter.at:%Y-%m-%d %H:%M:%S}", str(letter.cause), letter.session_id or "", error)
        table.add_row(*(escape(cell) for cell in cells))
    console().print(table)
