"""Recordings: what a session's log and its agent events hold, with the agents that it takes to fold them again.

A file has one JSON object per line: a `recording`, then each `fact`, each `event` as it is on `agent-events`, and each
`outcome`, which is what the fold made of one fact.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agents.catalog import AgentsFileError, Catalog
from agents.spec import AgentSpec
from agents.version import CORE_VERSION
from headrace.replay.errors import RecordingError
from schemas.codec import encode

FORMAT = 1
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Reach(Struct, frozen=True, kw_only=True):
    """Where the session's records are, and how far back and forth they reached.

    `log_begin` and `events_begin` are the oldest offsets that the partitions of `session-log` and `agent-events` had,
    and `events_oldest_ms` is the time of the oldest record of the latter. `decided_before` is the offset that the
    workers had committed; None where no worker ever committed.
    """

    topic: str
    partition: int
    log_begin: int = 0
    events_begin: int = 0
    events_oldest_ms: int | None = None
    decided_before: int | None = None


class AppliedAgent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What `agent-specs` had at `offset` about an agent; without a spec, it was removed there."""

    offset: int
    agent: str
    spec: AgentSpec | None = None


class About(Struct, frozen=True, kw_only=True, tag="recording"):
    """What a recording is of.

    `made_with` is the version of the core when the session was recorded, and `outcomes_of` that of the core which the
    outcomes are of. `others` are agents that the session had nothing to do with.
    """

    format: int = FORMAT
    made_with: int
    outcomes_of: int
    headrace: str
    session_id: str
    reach: Reach
    default_agent: str
    agents: dict[str, AgentSpec]
    others: tuple[str, ...] = ()
    tools: dict[str, dict[str, Any]] = {}
    applied: tuple[AppliedAgent, ...] = ()

    def catalog(self) -> Catalog:
        """The agents; of the others only the names, which some messages list."""
        catalog = Catalog(self.agents | {name: _unknown(name) for name in self.others}, self.default_agent)
        for one in self.applied:
            catalog.apply(one.offset, one.agent, one.spec)
        return catalog


def _unknown(name: str) -> AgentSpec:
    return AgentSpec(name=name, instructions="(not in the recording)")


class Fact(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="fact"):
    """A record of the session log: `value` where it is JSON on one line, else `base64`."""

    offset: int
    timestamp_ms: int
    headers: tuple[tuple[str, str], ...] = ()
    value: msgspec.Raw = msgspec.Raw()
    base64: bytes | None = None

    @property
    def body(self) -> bytes:
        """The record's value, byte for byte."""
        return _body(self.value, self.base64)


class Emitted(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="event"):
    """A record of `agent-events`; as `Fact`."""

    offset: int
    timestamp_ms: int
    value: msgspec.Raw = msgspec.Raw()
    base64: bytes | None = None

    @property
    def body(self) -> bytes:
        """The record's value, byte for byte."""
        return _body(self.value, self.base64)


class Refused(Struct, frozen=True):
    """Why a fact became a dead letter."""

    cause: str
    error: str


class Outcome(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="outcome"):
    """What the fold made of the fact at `offset`: the digest of the state after it, and what went out."""

    offset: int
    state: str
    effects: tuple[msgspec.Raw, ...] = ()
    events: tuple[msgspec.Raw, ...] = ()
    refused: Refused | None = None


class Recording(Struct, frozen=True, kw_only=True):
    """All that is known of one session; in the order of the offsets."""

    about: About
    facts: tuple[Fact, ...]
    events: tuple[Emitted, ...] = ()
    outcomes: tuple[Outcome, ...] = ()


_decode_line = msgspec.json.Decoder(About | Fact | Emitted | Outcome).decode


def value_fields(value: bytes | None) -> dict[str, Any]:
    """A record's value as the fields `value` or `base64` of a line."""
    value = value or b""
    try:
        msgspec.json.decode(value)
    except _UNREADABLE:
        return {"base64": value}
    return {"base64": value} if b"\n" in value or b"\r" in value else {"value": msgspec.Raw(value)}


def _body(value: msgspec.Raw, raw: bytes | None) -> bytes:
    return raw if raw is not None else bytes(value)


def lines(recording: Recording) -> Iterator[bytes]:
    """The lines of the file, without their ends."""
    yield encode(recording.about)
    for line in (*recording.facts, *recording.events, *recording.outcomes):
        yield encode(line)


def write_recording(path: Path, recording: Recording) -> None:
    """Write the file, readable for its owner only: it has what was said; one that is there is replaced in one step.

    Raises:
        RecordingError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.part")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.writelines(line + b"\n" for line in lines(recording))
        partial.replace(path)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be written: {error.strerror}") from None


def read_recording(path: Path) -> Recording:
    """Read a file that `write_recording` wrote.

    Raises:
        RecordingError: it cannot be read, or is no recording.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from None
    return parse_recording(content.split(b"\n"), str(path))


def parse_recording(content: Sequence[bytes], source: str) -> Recording:
    """A recording from its lines; see `read_recording`."""
    found: dict[type, list[Any]] = {About: [], Fact: [], Emitted: [], Outcome: []}
    for number, line in enumerate(content, start=1):
        if not line.strip():
            continue
        try:
            decoded = _decode_line(line)
        except _UNREADABLE as error:
            raise RecordingError(
                f"{source}, line {number}: expected a line of a recording, as `headrace replay SESSION --export FILE` "
                f"writes them: {error}"
            ) from None
        found[type(decoded)].append(decoded)
    if len(found[About]) != 1:
        raise RecordingError(f"{source}: expected one line of the type `recording`, got {len(found[About])}")
    (about,) = found[About]
    if about.format != FORMAT:
        raise RecordingError(f"{source}: expected format {FORMAT}, got {about.format}: read it with another version")
    offsets = [one.offset for one in about.applied]
    if offsets != sorted(set(offsets)):
        raise RecordingError(f"{source}: expected `applied` in the order of its offsets, got {offsets}")
    try:
        about.catalog()
    except AgentsFileError as error:
        raise RecordingError(f"{source}: {error}") from None
    by_offset = {kind: tuple(sorted(found[kind], key=lambda line: line.offset)) for kind in (Fact, Emitted, Outcome)}
    return Recording(about=about, facts=by_offset[Fact], events=by_offset[Emitted], outcomes=by_offset[Outcome])


def with_outcomes(recording: Recording, outcomes: Sequence[Outcome], agents: Iterable[str]) -> Recording:
    """The same recording with the outcomes of this core, and of its agents only the default one and these."""
    about = recording.about
    kept = {name: spec for name, spec in about.agents.items() if name in {*agents, about.default_agent}}
    names = {*agents, about.default_agent}
    applied = tuple(
        one if one.spec is None or one.agent in names else replace(one, spec=_unknown(one.agent))
        for one in about.applied
    )
    tools = {tool for spec in (*kept.values(), *(one.spec for one in applied if one.spec)) for tool in spec.tools}
    about = replace(
        about,
        outcomes_of=CORE_VERSION,
        agents=kept,
        applied=applied,
        others=tuple(sorted({*about.others, *about.agents} - set(kept))),
        tools={name: definition for name, definition in about.tools.items() if name in tools},
    )
    return replace(recording, about=about, outcomes=tuple(outcomes))
