"""Workers whose tables another one follows are killed and paused in turn: what was followed lacks nothing."""

import asyncio
import os
import signal
from typing import Any

import aiokafka
import rocksdict
from chaos.cluster import Cluster, Worker
from chaos.promise import assert_answered_once
from faust.stores.rocksdb import Store

from runtime.kafka import changelog_topic_name
from runtime.settings import Settings

SESSIONS = 40
BURST = 120
"""Messages at a time, some to each session: a worker that comes back has hundreds of records to follow."""
CAUGHT_UP_S = 3.0


class People:
    """They write to the same sessions all the time, so that each answer needs the table."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.sent: list[dict[str, Any]] = []

    async def write(self) -> None:
        burst = [
            {"session_id": f"s{number % SESSIONS}", "id": f"m{number}", "text": "[[latency:0.2]] Good morning!"}
            for number in range(len(self.sent), len(self.sent) + BURST)
        ]
        self.sent += burst
        await self._cluster.publish(burst)

    async def are_answered(self) -> None:
        keys = [(message["session_id"], message["id"]) for message in self.sent]
        assert_answered_once(await self._cluster.ended(len(keys)), keys)


async def test_what_is_taken_over_from_a_standby_replica_lacks_nothing(cluster: Cluster) -> None:
    """Each of two workers is killed, taken over from, and back as the one who follows; then one is paused for too long.

    In the end every table on disk, whoever wrote or followed it last, is what its changelog makes up to the offset that
    it knows: no record of a former owner was missed, and what the paused one wrote late is in none.
    """
    cluster.environment["HEADRACE_STANDBY_REPLICAS"] = "1"
    await cluster.start(workers=2)
    people = People(cluster)
    await people.write()
    await people.are_answered()
    for victim in tuple(cluster.workers):
        await asyncio.sleep(CAUGHT_UP_S)
        await people.write()
        await victim.kill()
        await people.are_answered()
        await people.write()
        await victim.start()
        await people.are_answered()
    await people.write()
    os.kill(cluster.workers[0].pid, signal.SIGSTOP)
    await people.are_answered()
    os.kill(cluster.workers[0].pid, signal.SIGCONT)
    await people.write()
    await people.are_answered()
    await asyncio.sleep(CAUGHT_UP_S)
    for worker in cluster.workers:
        assert worker.is_running, "a worker that found its table damaged has stopped"
        await worker.stop()
    changelog = await cluster.read(changelog_topic_name(Settings()))
    assert sum([assert_is_its_changelog(worker, changelog) for worker in cluster.workers]) >= Settings().partitions


def assert_is_its_changelog(worker: Worker, changelog: list[aiokafka.ConsumerRecord]) -> int:
    """How many tables the worker has."""
    paths = sorted(worker.data_dir.glob("tables/**/sessions-*.db"))
    for path in paths:
        partition = int(path.stem.removeprefix("sessions-"))
        table = dict(
            rocksdict.Rdict(
                str(path), rocksdict.Options(raw_mode=True), access_type=rocksdict.AccessType.read_only()
            ).items()
        )
        offset = int(table.pop(Store.offset_key))
        expected: dict[bytes, bytes] = {}
        for record in changelog:
            if record.partition == partition and record.offset <= offset:
                if record.value is None:
                    expected.pop(record.key, None)
                else:
                    expected[record.key] = record.value
        missing = sorted(expected.keys() - table.keys())
        assert not missing, f"{worker.data_dir.name}, partition {partition}, lacks {len(missing)}: {missing[:3]}"
        assert table == expected, f"{worker.data_dir.name}, partition {partition}"
    return len(paths)
