"""Agents as they are on `agent-specs`: their version, their record, and how a record gets into the catalog."""

import hashlib
from functools import cache
from typing import Any

import msgspec
from msgspec import Struct

from agents.catalog import Catalog
from agents.session import Session
from agents.spec import AgentSpec
from schemas.directory import AgentApplied, SpecRecord, agent_of_key, decode_spec_record
from schemas.log import BroadcastAccepted, MessageAccepted, SessionEvent
from schemas.refusal import UNREADABLE

VERSION_CHARACTERS = 12
"""48 bits: among a million versions of one agent, two different ones would share a version once in 500 times."""


class BadSpecRecordError(ValueError):
    """A record of `agent-specs` that is none; the message says what was expected and what came."""


def spec_fields(spec: AgentSpec) -> dict[str, Any]:
    """The agent as its file would declare it: without its name, and without what has its default.

    So a field that a later version of Headrace adds changes neither the record nor the version of agents without it.
    """
    return {name: value for name, value in _given(spec).items() if name != "name"}


def spec_version(spec: AgentSpec) -> str:
    """The same for the same agent: from its fields, in hexadecimal."""
    canonical = msgspec.json.encode(_given(spec), order="sorted")
    return hashlib.sha256(canonical).hexdigest()[:VERSION_CHARACTERS]


_fields = cache(msgspec.structs.fields)
"""Of a class: they are worked out from its type hints, each time."""


def _given(struct: Struct) -> dict[str, Any]:
    tag = struct.__struct_config__
    found: dict[str, Any] = {tag.tag_field: tag.tag} if tag.tag_field else {}
    for field in _fields(type(struct)):
        value = getattr(struct, field.name)
        if value != field.default:
            found[field.encode_name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Struct):
        return _given(value)
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return msgspec.to_builtins(value)


def spec_of(applied: AgentApplied) -> AgentSpec:
    """The agent of a record.

    Raises:
        BadSpecRecordError: it is none, or not of this version of Headrace.
    """
    try:
        return msgspec.convert({**applied.spec, "name": applied.agent}, AgentSpec)
    except msgspec.ValidationError as error:
        raise BadSpecRecordError(f"expected an agent: {error}") from None


def specs_offset_of(session: Session | None, event: SessionEvent) -> int:
    """How far `agent-specs` must have been read to fold `event` into `session`; -1: the files are enough."""
    newest = event.specs_offset if isinstance(event, MessageAccepted | BroadcastAccepted) else -1
    if session is None:
        return newest
    turn = -1 if session.head.turn is None else session.head.turn.specs_offset
    return max((newest, turn, *(message.specs_offset for message in session.head.queue)))


def read_spec_record(key: bytes | None, value: bytes) -> SpecRecord:
    """A record of `agent-specs`.

    Raises:
        BadSpecRecordError: it is none, or its key is not its agent's.
    """
    try:
        record: SpecRecord = decode_spec_record(value)
    except UNREADABLE as error:
        raise BadSpecRecordError(f"expected agent_applied or agent_removed: {error}") from None
    if agent_of_key(key) != record.agent:
        shown = (key or b"")[:100].decode(errors="replace")
        raise BadSpecRecordError(f"expected a key that begins with `{record.agent}@` and is its own, got `{shown}`")
    return record


def apply_record(catalog: Catalog, offset: int, key: bytes | None, value: bytes | None) -> str | None:
    """Let the catalog have what `agent-specs` has at `offset`.

    Returns:
        what is wrong with the record: then it changed nothing, in this worker as in every other.
    """
    if offset <= catalog.read_to:
        return None
    problem = None
    try:
        if value is None:
            catalog.forget(key or b"")
        else:
            record = read_spec_record(key, value)
            spec = spec_of(record) if isinstance(record, AgentApplied) else None
            catalog.apply(offset, record.agent, spec, key or b"")
    except BadSpecRecordError as error:
        problem = str(error)
    catalog.reach(offset)
    return problem
