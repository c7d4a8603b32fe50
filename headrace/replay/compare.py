"""The agent events that the fold emits, beside those that are on the topic, byte for byte."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from agents.version import CORE_VERSION, CORE_VERSIONS
from headrace.replay.fold import Moment
from headrace.replay.recording import About, Emitted, Recording
from schemas.codec import encode

Kind = Literal["missing", "additional", "different"]
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Difference(Struct, frozen=True, kw_only=True):
    """One event that is not on both sides, or not the same.

    `fact` is the offset of the fact that leads to the event, and `record` the offset of the event on the topic.
    `fields` are those that differ.
    """

    kind: Kind
    seq: int | None
    fact: int | None = None
    record: int | None = None
    fields: tuple[str, ...] = ()
    folded: Raw | None = None
    found: Raw | str | None = None


class Comparison(Struct, frozen=True, kw_only=True):
    """What was found. `same` events are on both sides, and `repeated` ones on the topic again with the same bytes.

    No difference are the events that retention `removed` from the topic, those that no worker has decided yet
    (`undecided`), and those from before the fold's beginning (`before`).
    """

    same: int = 0
    repeated: int = 0
    removed: int = 0
    undecided: int = 0
    before: int = 0
    differences: tuple[Difference, ...] = ()


class _Folded(Struct, frozen=True):
    fact: int
    at_ms: int
    seq: int
    body: bytes


def compare(recording: Recording, moments: Iterable[Moment], *, is_whole: bool = True) -> Comparison:
    """Compare the events of `moments`, which are of the whole recording, with the recording's.

    Args:
        recording: has the events that are on the topic.
        moments: the fold.
        is_whole: whether the fold begins with the session's first fact.
    """
    folded = [one for moment in moments for one in _folded(moment)]
    found, repeated = _distinct(recording.events)
    there, wanted = {record.body for record in found}, {one.body for one in folded}
    extra = [record for record in found if record.body not in wanted]
    first_same = next((n for n, one in enumerate(folded) if one.body in there), len(folded))
    differences: list[Difference] = []
    excused: Counter[str] = Counter()
    by_seq: defaultdict[int | None, list[Emitted]] = defaultdict(list)
    for record in extra:
        by_seq[_seq(record)].append(record)
    for n, one in enumerate(folded):
        if one.body in there:
            continue
        reason = _excuse(recording.about, one, is_before_all=n < first_same)
        if by_seq[one.seq] and reason != "removed":
            differences.append(_different(one, by_seq[one.seq].pop(0)))
        elif reason:
            excused[reason] += 1
        else:
            differences.append(Difference(kind="missing", seq=one.seq, fact=one.fact, folded=Raw(one.body)))
    first_record = next((record.offset for record in found if record.body in wanted), None)
    for record in sorted(
        (record for records in by_seq.values() for record in records), key=lambda record: record.offset
    ):
        if not is_whole and (first_record is None or record.offset < first_record):
            excused["before"] += 1
        else:
            differences.append(
                Difference(kind="additional", seq=_seq(record), record=record.offset, found=_shown(record.body))
            )
    return Comparison(
        same=sum(one.body in there for one in folded), repeated=repeated, differences=tuple(differences), **excused
    )


def _folded(moment: Moment) -> Iterator[_Folded]:
    for event in moment.step.events:
        yield _Folded(moment.fact.offset, int(event.at.timestamp() * 1000), event.seq, encode(event))


def _distinct(events: Sequence[Emitted]) -> tuple[list[Emitted], int]:
    """Each event once: a worker that dies may publish some again."""
    first: dict[bytes, Emitted] = {}
    for record in events:
        first.setdefault(record.body, record)
    return list(first.values()), len(events) - len(first)


def _excuse(about: About, one: _Folded, *, is_before_all: bool) -> Literal["removed", "undecided"] | None:
    """Why an event may be missing: it is older than all that the topic's partition has left, or not decided yet."""
    reach = about.reach
    if (
        reach.events_begin > 0
        and is_before_all
        and (reach.events_oldest_ms is None or one.at_ms <= reach.events_oldest_ms)
    ):
        return "removed"
    if reach.decided_before is None or one.fact >= reach.decided_before:
        return "undecided"
    return None


def _seq(record: Emitted) -> int | None:
    body = _object(record.body)
    seq = body.get("seq")
    return seq if isinstance(seq, int) else None


def _different(one: _Folded, record: Emitted) -> Difference:
    ours, theirs = _object(one.body), _object(record.body)
    fields = tuple(
        name for name in {**ours, **theirs} if name not in ours or name not in theirs or ours[name] != theirs[name]
    )
    return Difference(
        kind="different",
        seq=one.seq,
        fact=one.fact,
        record=record.offset,
        fields=fields or ("their order or spelling",),
        folded=Raw(one.body),
        found=_shown(record.body),
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except _UNREADABLE:
        return {}
    return found if isinstance(found, dict) else {}


def _shown(body: bytes) -> Raw | str:
    try:
        msgspec.json.decode(body)
    except _UNREADABLE:
        return body.decode(errors="replace")
    return Raw(body)


def about_versions(about: About) -> str:
    """What may explain a difference: the core of today is another one, or the agents are."""
    if about.made_with < CORE_VERSION:
        since = "; ".join(f"{n}: {what}" for n, what in sorted(CORE_VERSIONS.items()) if n > about.made_with)
        return f"the session was recorded with version {about.made_with} of the core, this is {CORE_VERSION} ({since})"
    if about.made_with > CORE_VERSION:
        return (
            f"the session was recorded with version {about.made_with} of the core, later than this one, {CORE_VERSION}"
        )
    return (
        f"this is version {CORE_VERSION} of the core, with the agents of today: a worker that had another version "
        f"(the last change: {CORE_VERSIONS[CORE_VERSION]}) or other agents emitted other events"
    )
