"""Records that could not be processed: listed, looked at, and sent again."""

import base64
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.audit import audited
from gateway.caller import Caller
from gateway.parts import Parts
from gateway.problems import Code, Problem
from gateway.reading import answer, read_body, read_path, read_query
from gateway.reads.dead_letters_sent import Order, as_it_was, edited
from gateway.reads.paging import NextCursor, PageQuery, PlainText, Since, Until, page, read_cursor, utc, write_cursor
from gateway.reads.times import At
from gateway.route import Route
from gateway.scopes import Scope
from runtime.settings import Settings
from schemas.audit import Act, Outcome
from schemas.causation import Causation, causation, why_not_replayable
from schemas.commands import MAX_MESSAGE_BYTES
from schemas.dead_letter import Cause, DeadLetter
from schemas.topics import TOPICS, Access

LAST = datetime.max.replace(tzinfo=UTC)
PATH = "/v1/dead-letters/{topic}/{partition}/{offset}"
Headers = tuple[tuple[str, bytes], ...]


class DeadLettersQuery(PageQuery, frozen=True, kw_only=True):
    """Which dead letters: those to which everything applies that is given."""

    cause: Annotated[Cause | None, msgspec.Meta(description="Why they are dead letters.")] = None
    topic: Annotated[PlainText | None, msgspec.Meta(description="From this topic.")] = None
    session_id: Annotated[PlainText | None, msgspec.Meta(description="Of this session.")] = None
    from_: Since = msgspec.field(name="from", default=None)
    to: Until = None


class Letter(Struct, frozen=True, kw_only=True):
    """A record that could not be processed, and why."""

    id: Annotated[
        str, msgspec.Meta(description="`{topic}/{partition}/{offset}` of the record; its path is below this.")
    ]
    topic: Annotated[str, msgspec.Meta(description="The record's topic, as it is named on the cluster.")]
    partition: int
    offset: int
    at: At
    processor: Annotated[str, msgspec.Meta(description="Which could not process it.")]
    cause: Annotated[str, msgspec.Meta(description="The kind of problem.")]
    error: Annotated[str, msgspec.Meta(description="What was expected, what came, and what to do.")]
    session_id: str | None
    record_at: Annotated[datetime | None, msgspec.Meta(description="The record's timestamp.")]
    bytes: Annotated[int | None, msgspec.Meta(description="How large its value is; none: the letter has no value.")]


class Letters(Struct, frozen=True, kw_only=True):
    """The dead letters, newest first."""

    items: tuple[Letter, ...]
    next_cursor: NextCursor


class Replay(Struct, frozen=True, kw_only=True):
    """The record was sent again."""

    at: At
    record: Annotated[str, msgspec.Meta(description="`{topic}/{partition}/{offset}` of the record that was sent.")]
    edited: Annotated[bool, msgspec.Meta(description="Whether its value was changed.")]
    session_id: str | None
    command_id: Annotated[str | None, msgspec.Meta(description="The command that it is, where that is known.")]
    dead_letter: Annotated[str | None, msgspec.Meta(description="The dead letter that it became, if it was refused.")]
    event: Annotated[str | None, msgspec.Meta(description="The last event of its turn, such as `turn_completed`.")]
    turn_id: Annotated[str | None, msgspec.Meta(description="The turn that answers it.")]


EditedValue = Annotated[
    str,
    msgspec.Meta(
        max_length=MAX_MESSAGE_BYTES,
        description="The value in place of the record's own: checked as the pipeline does, and marked as edited.",
    ),
]


class ReplayBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is sent; nothing: the record as it was."""

    value: EditedValue | None = None


class WholeLetter(Letter, frozen=True, kw_only=True):
    """With the record itself, byte for byte: what is text in UTF-8 as it is, and all else in base64."""

    key: Annotated[str | None, msgspec.Meta(description="The record's key, where it is text.")]
    key_base64: Annotated[str | None, msgspec.Meta(description="The record's key, where it is no text.")]
    value: Annotated[str | None, msgspec.Meta(description="The record's value, where it is text.")]
    value_base64: Annotated[
        str | None,
        msgspec.Meta(
            description="The record's value, where it is no text. Neither: it had none, or it was too large for a "
            "letter, as `error` says."
        ),
    ]
    headers: Annotated[
        tuple[tuple[str, str], ...], msgspec.Meta(description="Names and values in order; U+FFFD for what is no text.")
    ]
    headers_base64: Annotated[tuple[tuple[str, str], ...], msgspec.Meta(description="The same with values in base64.")]
    can_be_replayed: Annotated[bool, msgspec.Meta(description="Whether the caller's key could send it again as it is.")]
    causation: Annotated[Causation, msgspec.Meta(description="Where the record came from, as far as it says so.")]
    replays: Annotated[tuple[Replay, ...], msgspec.Meta(description="When it was sent again; the first 50.")]


class Replayed(Struct, frozen=True, kw_only=True):
    """The brokers have the record again."""

    id: Annotated[str, msgspec.Meta(description="Of the dead letter.")]
    topic: str
    partition: Annotated[int, msgspec.Meta(description="Where the record is now.")]
    offset: int


async def list_dead_letters(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    """Dead letters without their records; a tenant's key sees those of its sessions."""
    query = read_query(request, DeadLettersQuery)
    at, last_id = read_cursor(query.cursor, tuple[datetime, PlainText], (LAST, ""))
    rows = await parts.database.fetch(
        "dead_letters",
        caller.session_prefix or None,
        None if query.cause is None else str(query.cause),
        None if query.topic is None else _on_cluster(parts.settings, query.topic),
        query.session_id,
        utc(query.from_, "from"),
        utc(query.to, "to"),
        utc(at, "cursor"),
        last_id,
        query.limit + 1,
    )
    shown, last = page(rows, query.limit)
    return answer(
        Letters(
            items=tuple(Letter(**_letter(row)) for row in shown),
            next_cursor=None if last is None else write_cursor(last["at"], last["id"]),
        )
    )


async def get_dead_letter(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    """One dead letter with its record."""
    row = await _row(request, parts, caller)
    headers = _headers(row["record_headers"])
    key, key_base64 = _text_or_base64(row["record_key"])
    value, value_base64 = _text_or_base64(row["record_value"])
    found = _letter(row)
    letter = _dead_letter(row, found)
    return answer(
        WholeLetter(
            **found,
            key=key,
            key_base64=key_base64,
            value=value,
            value_base64=value_base64,
            headers=tuple((name, value.decode(errors="replace")) for name, value in headers),
            headers_base64=tuple((name, base64.b64encode(value).decode()) for name, value in headers),
            can_be_replayed=why_not_replayable(letter) is None
            and Scope.DEAD_LETTERS_WRITE in caller.scopes
            and (caller.is_operator or _is_public(parts.settings, found["topic"])),
            causation=causation(letter),
            replays=await _replays(parts, letter, caller),
        )
    )


async def post_replay(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    """Send the record again with the header `headrace-replay-of`, as it was or with another value.

    A command without an id keeps the one of its first delivery, so it is done once, however often it is sent.
    """
    body = await read_body(request, ReplayBody)
    row = await _row(request, parts, caller)
    found = _letter(row)
    if not _is_public(parts.settings, found["topic"]):
        caller.require_operator()
    letter = _dead_letter(row, found)
    order = as_it_was(letter) if body.value is None else edited(letter, body.value.encode(), caller)
    try:
        sent = await parts.publisher.resend(letter.topic, order.key, order.value, order.headers)
    except Problem as problem:
        await _audited(request, parts, caller, letter, order, Outcome.FAILED, why=problem.detail)
        raise
    await _audited(
        request, parts, caller, letter, order, Outcome.SUCCESS, sent_partition=sent.partition, sent_offset=sent.offset
    )
    replayed = Replayed(id=letter.id, topic=letter.topic, partition=sent.partition, offset=sent.offset)
    return answer(replayed, status=202)


async def _audited(
    request: web.Request, parts: Parts, caller: Caller, letter: DeadLetter, order: Order, outcome: Outcome, **sides: Any
) -> None:
    sides = {
        **sides,
        "session_id": order.session_id,
        "dead_letter": letter.id,
        "command_id": order.command_id,
        "edited": order.is_edited or None,
    }
    await audited(request, parts, caller, Act.DEAD_LETTER_REPLAYED, outcome, **sides)


async def _replays(parts: Parts, letter: DeadLetter, caller: Caller) -> tuple[Replay, ...]:
    """Those that the caller may know of: an operator can have sent it to another session."""
    rows = await parts.database.fetch("dead_letter_replays", letter.id, letter.at)
    rows = [row for row in rows if (row["session_id"] or "").startswith(caller.session_prefix)]
    records = [f"{letter.topic}/{row['sent_partition']}/{row['sent_offset']}" for row in rows]
    sessions, commands = ([row[name] for row in rows] for name in ("session_id", "command_id"))
    ends = await parts.database.fetch("dead_letter_ends", records, sessions, commands) if rows else []
    by_record = {end["record"]: end for end in ends}
    return tuple(
        Replay(
            at=row["at"],
            record=record,
            edited=row["edited"],
            session_id=row["session_id"],
            command_id=row["command_id"],
            dead_letter=by_record[record]["letter"],
            event=by_record[record]["end_type"],
            turn_id=by_record[record]["turn_id"],
        )
        for row, record in zip(rows, records, strict=True)
    )


async def _row(request: web.Request, parts: Parts, caller: Caller) -> Any:
    """The dead letter that the path names.

    Raises:
        Problem: `not_found`, also where it is not the caller's: which letters there are is nobody else's business.
    """
    topic, partition, offset = (read_path(request, name) for name in ("topic", "partition", "offset"))
    place = f"{_on_cluster(parts.settings, topic)}/{partition}/{offset}"
    # PostgreSQL takes no NUL, and no topic has one.
    row = None if "\0" in place else await parts.database.fetchrow("dead_letter", place, caller.session_prefix or None)
    if row is None:
        raise Problem(Code.NOT_FOUND, "expected the place of a dead letter's record, as `/v1/dead-letters` has it")
    return row


def _on_cluster(settings: Settings, topic: str) -> str:
    """The topic's name on the cluster, of either name."""
    return topic if topic.startswith(settings.topic_prefix) else settings.topic_prefix + topic


def _is_public(settings: Settings, topic: str) -> bool:
    """Whether anyone may write the topic anyway."""
    name = topic.removeprefix(settings.topic_prefix)
    return any(one.name == name and one.access == Access.PUBLIC_IN for one in TOPICS)


def _letter(row: Any) -> dict[str, Any]:
    topic, partition, offset = row["id"].rsplit("/", 2)
    return {
        "id": row["id"],
        "topic": topic,
        "partition": int(partition),
        "offset": int(offset),
        "at": row["at"],
        "processor": row["processor"],
        "cause": row["cause"],
        "error": row["error"],
        "session_id": row["session_id"],
        "record_at": row["record_at"],
        "bytes": row["bytes"],
    }


def _dead_letter(row: Any, found: dict[str, Any]) -> DeadLetter:
    fields = {name: value for name, value in found.items() if name != "bytes"}
    return DeadLetter(
        **fields, key=row["record_key"], value=row["record_value"], headers=_headers(row["record_headers"])
    )


def _headers(stored: str) -> Headers:
    return msgspec.json.decode(stored, type=Headers)


def _text_or_base64(value: bytes | None) -> tuple[str | None, str | None]:
    """One of them; neither where there is no value."""
    if value is None:
        return None, None
    try:
        return value.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(value).decode()


ROUTES = (
    Route(
        method="GET",
        path="/v1/dead-letters",
        handler=list_dead_letters,
        summary="Records that could not be processed",
        tag="dead letters",
        scope=Scope.DEAD_LETTERS_READ,
        query=DeadLettersQuery,
        answers={200: Letters},
    ),
    Route(
        method="GET",
        path=PATH,
        handler=get_dead_letter,
        summary="A dead letter with its record",
        tag="dead letters",
        scope=Scope.DEAD_LETTERS_READ,
        answers={200: WholeLetter},
    ),
    Route(
        method="POST",
        path=f"{PATH}/replay",
        handler=post_replay,
        summary="Send a dead letter's record again",
        tag="dead letters",
        scope=Scope.DEAD_LETTERS_WRITE,
        body=ReplayBody,
        answers={202: Replayed},
    ),
)
