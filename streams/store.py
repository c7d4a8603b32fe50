"""How a session lies in its table: one head, rewritten, and one record for each entry of the transcript, written once.

Keys: `h␀session`, `t␀session␀00000000`, the entry's number in hexadecimal, and `w␀call` for a call that waits until a
certain time. Values: JSON.
"""

from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec
from msgspec import Struct

from agents.draft import Step, Timer
from agents.session import Entry, Head, Session
from schemas.codec import encode

decode_head = msgspec.json.Decoder(Head).decode
_decode_entry: Callable[[bytes], Entry] = msgspec.json.Decoder(Entry).decode
HEAD_PREFIX = b"h\x00"
WAIT_PREFIX = b"w\x00"
Write = tuple[bytes, bytes | None]


class Wait(Struct, frozen=True, kw_only=True):
    """A call that waits, and until when: it is found without reading its session."""

    session_id: str
    call_id: str
    due: datetime


decode_wait = msgspec.json.Decoder(Wait).decode


def wait_key(call_id: str) -> bytes:
    return WAIT_PREFIX + call_id.encode()


def head_key(session_id: str) -> bytes:
    return HEAD_PREFIX + session_id.encode()


def entry_key(session_id: str, number: int) -> bytes:
    return b"t\x00%b\x00%08x" % (session_id.encode(), number)


def load(get: Callable[[bytes], bytes | None], session_id: str) -> Session | None:
    """Read a session; None where there is none.

    Raises:
        LookupError: the head counts an entry that is not there: the table is damaged.
    """
    value = get(head_key(session_id))
    if value is None:
        return None
    head = decode_head(value)
    return Session(head, tuple(_entry(get, session_id, number) for number in range(head.entries)))


def _entry(get: Callable[[bytes], bytes | None], session_id: str, number: int) -> Entry:
    value = get(entry_key(session_id, number))
    if value is None:
        raise LookupError(
            f"expected entry {number} of session `{session_id}` in the table, got none: "
            "stop the worker and delete its data directory, so that the table is read again from the changelog"
        )
    return _decode_entry(value)


def writes(session_id: str, before: Session | None, step: Step) -> list[Write]:
    """What the table needs to get from `before` to the step's session, in an order fit for `coalesced`."""
    after = step.session
    if after is before:
        return [_wait(session_id, timer) for timer in step.timers]
    old_count = len(before.transcript) if before else 0
    new_count = len(after.transcript) if after else 0
    kept = 0 if step.rewritten else old_count
    items: list[Write] = []
    if after is not None:
        items += [(entry_key(session_id, n), encode(after.transcript[n])) for n in range(kept, new_count)]
    items.append((head_key(session_id), encode(after.head) if after is not None else None))
    items += [_wait(session_id, timer) for timer in step.timers]
    items += [(entry_key(session_id, n), None) for n in range(new_count, old_count)]
    return items


def _wait(session_id: str, timer: Timer) -> Write:
    if timer.due is None:
        return wait_key(timer.call_id), None
    return wait_key(timer.call_id), encode(Wait(session_id=session_id, call_id=timer.call_id, due=timer.due))


def coalesced(writes: Iterable[Write]) -> list[Write]:
    """The last write of each key, in an order of which every prefix leaves each session readable.

    A worker may die after any of them: a head must follow the entries that it counts, and entries must not go before
    the head that counts them.
    """
    last = dict(writes)
    return sorted(last.items(), key=_turn_to_write)


def _turn_to_write(write: Write) -> int:
    key, value = write
    if key.startswith(HEAD_PREFIX):
        return 1
    return 0 if value is not None else 2
