"""`headrace dlq`."""

from typing import TYPE_CHECKING, Any

import msgspec
from cyclopts import App

from headrace.commands import GlobalContext
from headrace.output import console, print_json

if TYPE_CHECKING:
    from schemas.dead_letter import DeadLetter

MAX_ERROR_CHARACTERS = 100

dlq = App(name="dlq", help="Look at the records that could not be processed, and send them again.")


@dlq.command(name="list")
async def list_(*, limit: int = 100, cause: str | None = None, context: GlobalContext) -> int:
    """List the dead letters, the newest last.

    Example: `headrace dlq list --cause not_valid`

    Parameters
    ----------
    limit
        Show at most so many, the newest.
    cause
        Only those of this cause: not_json, not_valid, wrong_key, too_large, …
    """
    from headrace.dead_letters import list_dead_letters

    letters = await list_dead_letters(context.client_settings())
    shown = [letter for letter in letters if cause is None or letter.cause == cause][-limit:]
    if context.json:
        for letter in shown:
            print_json(_as_object(letter))
    elif shown:
        _print_table(shown)
    else:
        console().print("No dead letters." if cause is None else f"No dead letters of cause {cause}.")
    return 0


@dlq.command
async def show(id: str, *, context: GlobalContext) -> int:
    """Show one dead letter: where the record was, why it failed, and the record itself.

    Example: `headrace dlq show user-messages/3/17`

    Parameters
    ----------
    id
        As `headrace dlq list` shows it.
    """
    from headrace.dead_letters import find_dead_letter

    letter = _as_object(await find_dead_letter(context.client_settings(), id))
    if context.json:
        print_json(letter)
        return 0
    for name, value in letter.items():
        console().print(f"[cyan]{name:>10}[/] ", end="")
        console().print(value if isinstance(value, str) else msgspec.json.encode(value).decode(), markup=False)
    return 0


@dlq.command
async def replay(*ids: str, context: GlobalContext) -> int:
    """Send the original records again to their topics, with the header `headrace-replay-of`.

    Correct first what made them fail; a record that is wrong itself comes back as another dead letter.

    Example: `headrace dlq replay user-messages/3/17`

    Parameters
    ----------
    ids
        As `headrace dlq list` shows them.
    """
    from headrace.dead_letters import find_dead_letter
    from headrace.dead_letters import replay as send_again

    settings = context.client_settings()
    # All are looked up before the first is sent, so that a wrong id sends nothing.
    letters = [await find_dead_letter(settings, letter_id) for letter_id in ids]
    for letter in letters:
        sent = await send_again(settings, letter)
        if context.json:
            print_json({"id": letter.id, "topic": letter.topic, "partition": sent.partition, "offset": sent.offset})
        else:
            console().print(
                f"{letter.id} sent again to {letter.topic}, partition {sent.partition}, offset {sent.offset}",
                markup=False,
            )
    return 0


def _as_object(letter: "DeadLetter") -> dict[str, Any]:
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
