"""What `headrace doctor` finds: one check after the other, each with its outcome and what to do about it."""

import platform
import time
from collections.abc import AsyncIterator
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.protocol.admin import ApiVersionRequest

from headrace.check import Check
from headrace.connect import admin
from headrace.context import Context
from headrace.errors import HeadraceError
from headrace.reader_diagnosis import diagnose_readers
from headrace.stack.endpoints import FILE_NAME, read_endpoints
from headrace.stack.errors import StackError
from headrace.topics import check_topics
from headrace.versions import installed_version
from runtime.kafka import group_id
from runtime.settings import Settings, SettingsError

PACKAGES = ("headrace", "faust-streaming", "aiokafka", "anthropic")
SLOW_BROKER_MS = 100
LATENCY_PROBES = 3
"""The least of them counts: a machine that is busy for a moment says nothing about the way to the brokers."""
FETCH_API = 1


async def diagnose(context: Context) -> AsyncIterator[Check]:
    """Check the settings, the versions, the model, the brokers, the topics and the workers; then what readers need."""
    versions = ", ".join(f"{package} {installed_version(package)}" for package in PACKAGES)
    yield Check(level="ok", what="versions", found=f"python {platform.python_version()}, {versions}")
    try:
        settings = context.client_settings()
    except SettingsError as error:
        for problem in error.problems:
            yield Check(level="fail", what="settings", found=problem, to_do="correct it where it is set")
        return
    except StackError as error:
        yield Check(level="fail", what="settings", found=str(error), to_do="start the stack again, or set `brokers`")
        return
    yield Check(level="ok", what="settings", found=f"brokers {settings.brokers}, data in {settings.data_dir}")
    yield _check_model(settings)
    try:
        async with admin(settings) as client:
            yield await _check_brokers(client, settings)
            yield await _check_workers(client, settings)
        async for check in _check_topics(settings):
            yield check
    except HeadraceError as error:
        found, _, to_do = str(error).partition(": ")
        yield Check(level="fail", what="brokers", found=found, to_do=to_do)
        return
    async for check in diagnose_readers(settings):
        yield check


def _check_model(settings: Settings) -> Check:
    if (settings.data_dir / FILE_NAME).exists():
        model = read_endpoints(settings.data_dir).model
        if model is not None:
            return Check(level="ok", what="model", found=f"the simulated model of the stack, at {model}")
    address = f" at {settings.anthropic_base_url}" if settings.anthropic_base_url else ""
    if settings.anthropic_api_key is not None:
        return Check(level="ok", what="model", found=f"ANTHROPIC_API_KEY is set; its value is not tried{address}")
    if address:
        return Check(level="ok", what="model", found=f"without a key{address}: a simulated model")
    return Check(
        level="warn",
        what="model",
        found="no ANTHROPIC_API_KEY",
        to_do="set it, or use the simulated model: `headrace dev`, or `headrace simulate-model` and ANTHROPIC_BASE_URL",
    )


async def _check_brokers(client: AIOKafkaAdminClient, settings: Settings) -> Check:
    cluster: dict[str, Any] = await client.describe_cluster()
    took_ms = min([await _latency_ms(client) for _ in range(LATENCY_PROBES)])
    count = len(cluster["brokers"])
    # A broker does not tell its release, only which versions of each request it takes.
    fetch = await _newest(client, FETCH_API)
    found = f"{count} at {settings.brokers}, answer in {took_ms:.0f} ms, fetch API version {fetch}"
    if count < settings.replication:
        to_do = f"start {settings.replication} brokers, or set `replication` to at most {count}"
        return Check(level="fail", what="brokers", found=found, to_do=to_do)
    if took_ms > SLOW_BROKER_MS:
        to_do = f"expect more than {SLOW_BROKER_MS} ms for each step of a turn, or move the workers near the brokers"
        return Check(level="warn", what="brokers", found=found, to_do=to_do)
    return Check(level="ok", what="brokers", found=found)


async def _latency_ms(client: AIOKafkaAdminClient) -> float:
    began = time.perf_counter()
    await client.describe_cluster()
    return (time.perf_counter() - began) * 1000


async def _newest(client: AIOKafkaAdminClient, api: int) -> int | None:
    response = await client._send_request(ApiVersionRequest())  # noqa: SLF001 # the admin client has no method for it
    for entry in response.api_versions:
        if entry[0] == api:
            return int(entry[2])
    return None


async def _check_workers(client: AIOKafkaAdminClient, settings: Settings) -> Check:
    group = group_id(settings)
    try:
        responses = await client.describe_consumer_groups([group])
    except GroupCoordinatorNotAvailableError:
        # The brokers keep groups in a topic that is created with the first group.
        responses = []
    members = sum(len(described[5]) for response in responses for described in response.groups)
    if members == 0:
        to_do = "start one with `headrace worker` or `headrace dev`; messages wait until then"
        return Check(level="warn", what="workers", found=f"none in group {group}", to_do=to_do)
    return Check(level="ok", what="workers", found=f"{members} in group {group}")


async def _check_topics(settings: Settings) -> AsyncIterator[Check]:
    findings = await check_topics(settings)
    if not findings:
        yield Check(level="ok", what="topics", found=f"all there, {settings.partitions} partitions")
    missing = [finding for finding in findings if finding.what == "missing"]
    if missing:
        names = ", ".join(finding.topic for finding in missing)
        yield Check(level="fail", what="topics", found=f"missing: {names}", to_do=missing[0].to_do)
    for finding in findings:
        if finding.what != "missing":
            found = f"{finding.topic}: {finding.what} expected {finding.expected}, found {finding.found}"
            yield Check(level=finding.level, what="topics", found=found, to_do=finding.to_do)
