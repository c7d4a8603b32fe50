"""The pipeline as a picture of what flows: topics with rates and lag, and who works on them. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Struct

from gateway.brokers import Partition, Sample
from schemas.topics import (
    AGENT_DELTAS,
    AGENT_DIRECTORY,
    AGENT_EVENTS,
    AGENT_SPECS,
    AUDIT_EVENTS,
    DEAD_LETTERS,
    LLM_REQUESTS,
    SESSION_LOG,
    TOOL_CALLS,
    TOPICS,
    USER_MESSAGES,
    Topic,
)
from schemas.topology import TOPOLOGY

WORKERS = ""
"""The name of the workers' consumer group in a sample."""


class TopicFlow(Struct, frozen=True, kw_only=True):
    """A topic, and what flows through it."""

    name: str
    records_per_second: Annotated[float, msgspec.Meta(description="Written in the last seconds.")]
    records: Annotated[int, msgspec.Meta(description="That the topic has.")]
    lag: Annotated[
        int | None,
        msgspec.Meta(description="How many records its processor has not done yet; none: no processor reads it."),
    ]
    reader: Annotated[str | None, msgspec.Meta(description="The processor that reads it.")]


class FlowNode(Struct, frozen=True, kw_only=True):
    """A part of Headrace that reads and writes topics."""

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    does: str


class ProjectionLag(Struct, frozen=True, kw_only=True):
    """How many records a projection is behind."""

    name: str
    lag: int


class Flow(Struct, frozen=True, kw_only=True):
    """The pipeline now. Calls are open from their order until all before them in their partition are done as well."""

    at: datetime
    topics: tuple[TopicFlow, ...]
    nodes: tuple[FlowNode, ...]
    open_model_calls: Annotated[int, msgspec.Meta(description="Orders on `llm-requests` that are not done.")]
    open_tool_calls: Annotated[int, msgspec.Meta(description="Orders on `tool-calls` that are not done.")]
    dead_letters_last_hour: int
    projections: tuple[ProjectionLag, ...]
    active_sessions: Annotated[int, msgspec.Meta(description="Sessions in which something happened in 5 minutes.")]


NODES: tuple[FlowNode, ...] = (
    FlowNode(
        name="gateway",
        reads=(),
        writes=(USER_MESSAGES.name, AUDIT_EVENTS.name),
        does="takes commands over HTTP and WebSocket",
    ),
    *(
        FlowNode(
            name=node.name,
            reads=(node.reads.name,),
            writes=(*(topic.name for topic in node.writes), DEAD_LETTERS.name),
            does=node.does,
        )
        for node in TOPOLOGY
    ),
    FlowNode(
        name="directory",
        reads=(AGENT_SPECS.name, AGENT_DIRECTORY.name),
        writes=(AGENT_DIRECTORY.name,),
        does="in every worker: which agents there are",
    ),
    FlowNode(
        name="projections",
        reads=(SESSION_LOG.name, AGENT_EVENTS.name, AGENT_DELTAS.name, AUDIT_EVENTS.name, DEAD_LETTERS.name),
        writes=(),
        does="make what readers see",
    ),
)


def flow(earlier: Sample, now: Sample, at: datetime, *, dead_letters_last_hour: int, active_sessions: int) -> Flow:
    """The picture that two samples give."""
    lags = {topic.name: _lag(now, WORKERS, topic) for topic in TOPICS}
    return Flow(
        at=at,
        topics=tuple(
            TopicFlow(
                name=topic.name,
                records_per_second=_rate(earlier, now, topic),
                records=_sum(now.ends, topic) - _sum(now.begins, topic),
                lag=lags[topic.name] if _reader(topic) else None,
                reader=_reader(topic),
            )
            for topic in TOPICS
        ),
        nodes=NODES,
        open_model_calls=lags[LLM_REQUESTS.name],
        open_tool_calls=lags[TOOL_CALLS.name],
        dead_letters_last_hour=dead_letters_last_hour,
        projections=tuple(
            ProjectionLag(name=name, lag=_projection_lag(now, name))
            for name in sorted(now.committed)
            if name != WORKERS
        ),
        active_sessions=active_sessions,
    )


def _reader(topic: Topic) -> str | None:
    return next((node.name for node in TOPOLOGY if node.reads == topic), None)


def _rate(earlier: Sample, now: Sample, topic: Topic) -> float:
    seconds = now.at_s - earlier.at_s
    written = _sum(now.ends, topic) - _sum(earlier.ends, topic)
    # A topic that was deleted and made again begins at 0.
    return round(max(0, written) / seconds, 1) if seconds > 0 else 0.0


def _sum(offsets: Mapping[Partition, int], topic: Topic) -> int:
    return sum(offset for (name, _), offset in offsets.items() if name == topic.name)


def _lag(sample: Sample, group: str, topic: Topic) -> int:
    """What a group has left to do in a topic; where it has committed nothing, it begins with the oldest record."""
    committed = sample.committed.get(group, {})
    return sum(
        max(0, end - max(committed.get(place, -1), sample.begins.get(place, 0)))
        for place, end in sample.ends.items()
        if place[0] == topic.name
    )


def _projection_lag(sample: Sample, name: str) -> int:
    """In the topics that the projection reads: it commits in each of them sooner or later."""
    topics = {topic for topic, _ in sample.committed[name]}
    return sum(_lag(sample, name, topic) for topic in TOPICS if topic.name in topics)
