"""The consumer: what would leave a worker that says it is ready and reads nothing, or has old tables, ends it."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError
from faust.types import TP

from runtime.kafka import record_time
from runtime.settings import Settings
from streams.app import create_app
from streams.consumer import Consumer, TablesBehindError
from streams.lease import HeartbeatLease

LOG = TP("session-log", 0)


async def nothing(*_: Any) -> None:
    pass


@pytest.fixture
def failures() -> list[BaseException]:
    return []


@pytest.fixture
async def consumer(failures: list[BaseException]) -> Consumer:
    """Of a worker of which no broker knows."""
    app = create_app(Settings())
    app.fail = failures.append
    app.processors = {}
    app.log_topic = LOG.topic
    app.lease = HeartbeatLease()
    consumer = app.consumer
    assert isinstance(consumer, Consumer)
    consumer._thread = SimpleNamespace(heartbeat=nothing, seek_all=lambda _: None, check_group=lambda: None)
    return consumer


async def test_partitions_that_cannot_be_claimed_end_the_worker(
    consumer: Consumer, failures: list[BaseException]
) -> None:
    """As without the right to the transactional id; aiokafka only logs what a listener raises."""
    refused = GroupAuthorizationFailedError()

    async def claim(partitions: set[int]) -> None:
        assert partitions == {0}
        raise refused

    consumer.app.claim = claim
    with pytest.raises(KafkaError):
        await consumer.on_partitions_assigned({LOG})
    assert failures == [refused]


async def test_an_error_of_the_group_ends_the_worker(consumer: Consumer, failures: list[BaseException]) -> None:
    """It stops joining and keeps the error until somebody asks, also while no records flow."""
    refused = GroupAuthorizationFailedError()

    def check_group() -> None:
        raise refused

    consumer._thread.check_group = check_group
    consumer.flow_active = False
    with pytest.raises(KafkaError):
        await consumer._drain_messages(SimpleNamespace(should_stop=False))
    assert failures == [refused]


async def test_nothing_is_read_with_tables_that_lack_records(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever went wrong in the recovery: old states must not be written over newer ones."""
    recovery = consumer.app.tables.recovery
    heard: list[dict[int, int]] = []
    consumer.app.on_positions = lambda positions, _: heard.append(positions)
    consumer._starts = {LOG: 3}

    async def highwaters(*places: TP) -> dict[TP, int]:
        return dict.fromkeys(places, 9)

    monkeypatch.setattr(consumer, "highwaters", highwaters)
    changelog = TP("changelog", 0)
    recovery.active_highwaters[changelog], recovery.active_offsets[changelog] = 10, 4
    with pytest.raises(TablesBehindError, match="lack 6 records"):
        await consumer.seek_to_committed()
    assert heard == []
    recovery.active_offsets[changelog] = 10
    await consumer.seek_to_committed()
    assert heard == [{0: 2}]


@pytest.mark.parametrize(
    ("timestamp_ms", "year"), [(-(10**18), 1970), (-1, 1970), (1_767_225_600_000, 2026), (1_767_225_600_000_000, 9000)]
)
def test_any_timestamp_is_a_time(timestamp_ms: int, year: int) -> None:
    """Producers may set microseconds, or anything; a window before it and a time limit after it are times too."""
    assert record_time(timestamp_ms).year == year
