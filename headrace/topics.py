"""The topics on the cluster: created from the table of topics, and compared with it."""

import asyncio
from typing import Any, Literal

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code
from msgspec import Struct

from headrace.connect import admin
from headrace.errors import ApplyTopicsError, HeadraceError
from runtime.kafka import changelog_topic_name, topic_name
from runtime.settings import Settings
from schemas.topics import DAY_MS, MAX_INTERNAL_BYTES, TOPICS, Topic

NO_ERROR = 0
TOPIC_ALREADY_EXISTS = 36
READY_DEADLINE_S = 20.0
POLL_INTERVAL_S = 0.1
SAFE_REPLICATION = 3

_FIXES = {
    "partitions": (
        "set `partitions` to what the other topics have, or delete the topic and apply again; adding partitions moves "
        "sessions away from their state"
    ),
    "replication": "move its replicas with your cluster's tool (`rpk`, `kafka-reassign-partitions`)",
}

TOMBSTONES_MS = 30 * DAY_MS
"""Longer than a worker is away that keeps its tables."""


class TopicsNotCreatedError(HeadraceError):
    """The brokers refused to create a topic; the message has their reason."""


class ExpectedTopic(Struct, frozen=True, kw_only=True):
    """A topic as it must be on the cluster."""

    name: str
    partitions: int
    replication: int
    configs: dict[str, str]


class Finding(Struct, frozen=True, kw_only=True):
    """One way in which a topic is not as expected, and what to do about it.

    `level` is `fail` where the pipeline cannot work so, and `warn` where it works, but not as documented.
    """

    topic: str
    what: str
    expected: str
    found: str
    level: Literal["fail", "warn"]
    to_do: str


def expected_topics(settings: Settings) -> tuple[ExpectedTopic, ...]:
    """Every topic that a pipeline with these settings needs, the changelog of its table included."""
    public = [
        ExpectedTopic(
            name=topic_name(settings, topic),
            partitions=topic.partitions or settings.partitions,
            replication=settings.replication,
            configs=_configs(topic) | _replica_configs(settings),
        )
        for topic in TOPICS
    ]
    changelog = ExpectedTopic(
        name=changelog_topic_name(settings),
        partitions=settings.partitions,
        replication=settings.replication,
        configs={
            "cleanup.policy": "compact",
            "max.message.bytes": str(MAX_INTERNAL_BYTES),
            # The segment that is written is not compacted: so this much is read twice at most.
            "segment.ms": str(DAY_MS),
            # A worker that was away reads on from where its table is: it must find what was deleted meanwhile.
            "delete.retention.ms": str(TOMBSTONES_MS),
        }
        | _replica_configs(settings),
    )
    return (*public, changelog)


def _configs(topic: Topic) -> dict[str, str]:
    configs = {"cleanup.policy": topic.cleanup_policy, "max.message.bytes": str(topic.max_message_bytes)}
    if "delete" in topic.cleanup_policy:
        configs["retention.ms"] = str(topic.retention_ms)
        # Only whole segments are deleted, and a broker begins a new one after a week if it is not told otherwise.
        configs["segment.ms"] = str(min(topic.retention_ms // 2, DAY_MS))
    return configs


def _replica_configs(settings: Settings) -> dict[str, str]:
    """With three replicas, a record that was acknowledged is on two: it survives the loss of any one broker."""
    return {"min.insync.replicas": "2"} if settings.replication >= SAFE_REPLICATION else {}


async def apply_topics(settings: Settings) -> list[str]:
    """Create what is missing and wait until it can be written; what exists is left as it is.

    Returns:
        the names of the topics that this call created.

    Raises:
        StartBrokersError: no broker answers.
        TopicsNotCreatedError: the brokers refuse, for instance for want of replicas.
    """
    async with admin(settings) as client:
        existing = await client.list_topics()
        missing = [topic for topic in expected_topics(settings) if topic.name not in existing]
        created = await _create(client, missing) if missing else []
        await _wait_until_ready(client, {topic.name for topic in missing})
        return created


async def _create(client: AIOKafkaAdminClient, missing: list[ExpectedTopic]) -> list[str]:
    response = await client.create_topics(
        [NewTopic(t.name, t.partitions, t.replication, topic_configs=t.configs) for t in missing]
    )
    created, refused = [], []
    for topic in response.to_object()["topic_errors"]:
        name, code = topic["topic"], topic["error_code"]
        if code == NO_ERROR:
            created.append(name)
        # Somebody else created it since we looked.
        elif code != TOPIC_ALREADY_EXISTS:
            refused.append(f"{name}: {topic.get('error_message') or for_code(code).__name__}")
    if refused:
        raise TopicsNotCreatedError("the brokers refused to create " + "; ".join(refused))
    return created


async def _wait_until_ready(client: AIOKafkaAdminClient, names: set[str]) -> None:
    deadline = asyncio.get_running_loop().time() + READY_DEADLINE_S
    while True:
        topics = {topic["topic"]: topic for topic in await client.describe_topics()}
        waiting = sorted(name for name in names if not _has_leaders(topics.get(name)))
        if not waiting:
            return
        if asyncio.get_running_loop().time() > deadline:
            raise TopicsNotCreatedError(
                f"{', '.join(waiting)}: no leader after {READY_DEADLINE_S:.0f} s; see the brokers' logs, apply again"
            )
        await asyncio.sleep(POLL_INTERVAL_S)


def _has_leaders(topic: dict[str, Any] | None) -> bool:
    if topic is None or topic["error_code"] != NO_ERROR:
        return False
    return all(partition["error_code"] == NO_ERROR for partition in topic["partitions"])


async def check_topics(settings: Settings) -> list[Finding]:
    """How the topics on the cluster differ from what they must be; empty when all is well.

    Raises:
        StartBrokersError: no broker answers.
    """
    async with admin(settings) as client:
        existing = {topic["topic"]: topic for topic in await client.describe_topics()}
        expected = expected_topics(settings)
        present = [topic for topic in expected if topic.name in existing]
        configs = await _read_configs(client, [topic.name for topic in present])
    findings = [_missing(topic) for topic in expected if topic.name not in existing]
    for topic in present:
        findings += _shape_findings(topic, existing[topic.name]["partitions"])
        findings += _config_findings(topic, configs.get(topic.name, {}))
    return findings


async def require_topics(settings: Settings) -> None:
    """Return where the topics are such that the pipeline can work.

    Raises:
        StartBrokersError: no broker answers, or it does not let us in.
        ApplyTopicsError: a topic is missing, or not as it must be.
    """
    failures = [finding for finding in await check_topics(settings) if finding.level == "fail"]
    if failures:
        first = failures[0]
        others = f" (and {len(failures) - 1} more: `headrace topics check` lists them)" if len(failures) > 1 else ""
        raise ApplyTopicsError(
            f"topic {first.topic}, {first.what}: expected {first.expected}, found {first.found}{others}: {first.to_do}"
        )


async def _read_configs(client: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found: dict[str, dict[str, str]] = {}
    for response in await client.describe_configs(resources):
        for resource in response.to_object()["resources"]:
            entries = resource["config_entries"]
            found[resource["resource_name"]] = {entry["config_names"]: entry["config_value"] for entry in entries}
    return found


def _missing(topic: ExpectedTopic) -> Finding:
    return Finding(
        topic=topic.name,
        what="missing",
        expected=f"{topic.partitions} partitions",
        found="none",
        level="fail",
        to_do="create it with `headrace topics apply`",
    )


def _shape_findings(topic: ExpectedTopic, partitions: list[dict[str, Any]]) -> list[Finding]:
    replicas = min((len(partition["replicas"]) for partition in partitions), default=0)
    found: list[tuple[str, int, int, Literal["fail", "warn"]]] = []
    if len(partitions) != topic.partitions:
        found.append(("partitions", topic.partitions, len(partitions), "fail"))
    if replicas < topic.replication:
        found.append(("replication", topic.replication, replicas, "warn"))
    return [
        Finding(topic=topic.name, what=what, expected=str(expected), found=str(is_), level=level, to_do=_FIXES[what])
        for what, expected, is_, level in found
    ]


def _config_findings(topic: ExpectedTopic, configs: dict[str, str]) -> list[Finding]:
    """A setting that the broker does not report is one that it does not have: Redpanda has fewer than Kafka."""
    return [
        Finding(
            topic=topic.name,
            what=name,
            expected=expected,
            found=configs[name],
            level="fail" if name == "cleanup.policy" else "warn",
            to_do=f"set it with `rpk topic alter-config {topic.name} --set {name}={expected}` or `kafka-configs`",
        )
        for name, expected in topic.configs.items()
        if name in configs and configs[name] != expected
    ]
