"""How `headrace dlq replay` goes about it: what is meant is looked up and planned, then shown, asked, and sent."""

import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.context import Context
from headrace.dead_letters import RefusedAgainError, Selection, list_dead_letters
from headrace.dead_letters.check import check_record, known_agents
from headrace.dead_letters.edit import edit
from headrace.dead_letters.history import replays
from headrace.dead_letters.letters import find_among, in_order
from headrace.dead_letters.plan import Planned, Verdict, key_of, plan
from headrace.dead_letters.send import Order, replay_all
from headrace.errors import UsageError
from headrace.output import console, print_error, print_json
from schemas.causation import plain_topic
from schemas.refusal import RefusedError
from schemas.topics import BROADCASTS

if TYPE_CHECKING:
    from headrace.client import SentMessage
    from schemas.dead_letter import DeadLetter

PROGRESS_EVERY = 100


async def replay_many(context: Context, ids: Sequence[str], chosen: Selection, *, dry_run: bool, yes: bool) -> int:
    """Send what is named, or selected. Status 1 where something that was named is not sent."""
    settings = context.client_settings()
    kept = await list_dead_letters(settings)
    # All are looked up before the first is sent, so that a wrong id sends nothing.
    named = [find_among(kept, one) for one in dict.fromkeys(ids)]
    letters = named or [letter for letter in kept if chosen.has(letter)]
    again = await replays(settings, letters)
    has_broadcasts = any(plain_topic(letter.topic) == BROADCASTS.name for letter in letters)
    agents = await known_agents(settings) if has_broadcasts else ()
    planned = plan(in_order(letters), again, datetime.now(UTC), agents)
    # Who names a record has a reason to send it.
    sent_all_the_same = {Verdict.SEND, Verdict.REFUSED} if ids else {Verdict.SEND}
    orders = [Order(letter=each.letter) for each in planned if each.verdict in sent_all_the_same]
    if dry_run:
        _tell(context, planned)
        return 0
    for each in planned:
        if each.verdict not in sent_all_the_same:
            _tell_left_out(context, each)
    if orders and not ids and not yes:
        _ask(len(orders), planned)
    count = 0
    async for letter, sent in replay_all(settings, orders):
        count += 1
        _tell_sent(context, letter, sent)
        if count % PROGRESS_EVERY == 0:
            print_error(f"{count} of {len(orders)} sent")
    if not context.json and not ids:
        console().print(_summary(planned))
    return 1 if any(each.verdict is Verdict.IMPOSSIBLE for each in planned) and ids else 0


async def replay_edited(context: Context, id: str, file: Path | None, *, dry_run: bool) -> int:
    """Send one with another value, which is checked first."""
    settings = context.client_settings()
    letter = find_among(await list_dead_letters(settings), id)
    again = (await replays(settings, [letter])).get(id)
    if again:
        _tell_left_out(context, plan([letter], {id: again}, datetime.now(UTC), ())[0])
        return 0
    value = edit(letter.value or b"") if file is None else _read(file)
    agents = await known_agents(settings) if plain_topic(letter.topic) == BROADCASTS.name else ()
    try:
        check_record(letter.topic, key_of(letter, value, is_edited=True), value, datetime.now(UTC), agents)
    except RefusedError as refused:
        raise RefusedAgainError(f"the edited record would be refused ({refused.cause}): {refused}") from None
    if dry_run:
        _tell(context, [Planned(letter=letter, verdict=Verdict.SEND)])
        return 0
    async for _, sent in replay_all(settings, [Order(letter=letter, value=value)]):
        _tell_sent(context, letter, sent)
    return 0


def _read(file: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise UsageError(f"expected --value with a file that can be read, got {file}: {error.strerror}") from None


def _ask(count: int, planned: Sequence[Planned]) -> None:
    if not sys.stdin.isatty():
        raise UsageError("expected --yes, as there is nobody to ask; --dry-run says what would be sent")
    print_error(_summary(planned))
    print(f"Send {count} records again? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise UsageError("nothing was sent")


def _tell(context: Context, planned: Sequence[Planned]) -> None:
    for each in planned:
        if context.json:
            print_json({"id": each.letter.id, "verdict": each.verdict, "why": each.why})
        else:
            console().print(f"{each.letter.id}  {each.verdict}  {each.why}", markup=False)
    if not context.json:
        console().print(_summary(planned))


def _tell_left_out(context: Context, each: Planned) -> None:
    if context.json:
        print_json({"id": each.letter.id, "verdict": each.verdict, "why": each.why})
    else:
        console().print(f"{each.letter.id} not sent ({each.verdict}): {each.why}", markup=False)


def _tell_sent(context: Context, letter: "DeadLetter", sent: "SentMessage") -> None:
    if context.json:
        print_json({"id": letter.id, "topic": letter.topic, "partition": sent.partition, "offset": sent.offset})
    else:
        console().print(
            f"{letter.id} sent again to {letter.topic}, partition {sent.partition}, offset {sent.offset}", markup=False
        )


def _summary(planned: Sequence[Planned]) -> str:
    counts = Counter(each.verdict for each in planned)
    said = [f"{verdict}: {counts[verdict]}" for verdict in Verdict if counts[verdict]]
    return ", ".join(said) or "No such dead letters."
