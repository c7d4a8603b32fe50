"""The port `Table`: the simulation's dictionary, the one in memory and the one on RocksDB keep the same promises."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faust
import pytest
from faust.types import TP
from simulation.worker import Tables

from runtime.kafka import partition_for
from runtime.settings import Settings
from schemas.codec import encode
from schemas.ids import call_id, turn_id
from streams.app import create_app, create_table
from streams.ports import Table
from streams.store import HEAD_PREFIX, Wait, decode_wait, entry_key, head_key, wait_key
from streams.table import MemoryTable, RocksDBTable

PARTITIONS = 2
IDS = {
    partition: [name for n in range(40) if partition_for((name := f"s{n}").encode(), PARTITIONS) == partition]
    for partition in range(PARTITIONS)
}
"""Sessions of each partition."""


def settings(data_dir: Path, store: str) -> Settings:
    """Nothing connects: no broker is there."""
    return Settings.model_validate(
        {"brokers": "127.0.0.1:1", "data_dir": data_dir, "store": store, "partitions": PARTITIONS}
    )


def open_table(data_dir: Path, store: str) -> Table:
    own = settings(data_dir, store)
    return create_table(create_app(own), own)


def close(table: Table) -> None:
    """As Faust does at the end of a worker."""
    assert isinstance(table, RocksDBTable)
    table._table.data._dbs.clear()


def simulated(data_dir: Path) -> Table:
    del data_dir
    tables = Tables()
    tables.data = {partition: {} for partition in range(PARTITIONS)}
    return tables


KINDS: dict[str, Callable[[Path], Table]] = {
    "simulation": simulated,
    "memory": lambda data_dir: open_table(data_dir, "memory"),
    "rocksdb": lambda data_dir: open_table(data_dir, "rocksdb"),
}


@pytest.fixture(params=KINDS)
async def table(request: pytest.FixtureRequest, tmp_path: Path) -> Table:
    return KINDS[request.param](tmp_path)


async def test_what_is_put_is_there_until_it_is_deleted(table: Table) -> None:
    """Values are bytes, empty ones too; a later write replaces; deleting what is not there is nothing."""
    key, other = head_key(IDS[0][0]), entry_key(IDS[0][0], 0)
    assert table.get(0, key) is None
    table.put(0, [(key, b"one"), (other, b"")], 1)
    assert (table.get(0, key), table.get(0, other)) == (b"one", b"")
    table.put(0, [(key, b"two"), (other, None), (head_key("nobody"), None)], 4)
    assert (table.get(0, key), table.get(0, other)) == (b"two", None)
    table.put(0, [(key, b"three"), (key, None), (other, None), (other, b"four")], 8)
    assert (table.get(0, key), table.get(0, other)) == (None, b"four")


async def test_heads_are_those_of_the_partition_and_nothing_else(table: Table) -> None:
    """Neither entries, nor the offset that a store may keep, nor sessions of another partition, nor deleted ones."""
    for partition, ids in IDS.items():
        for offset, session_id in enumerate(ids):
            items = [(head_key(session_id), f"head of {session_id}".encode())]
            table.put(
                partition, [*items, (entry_key(session_id, 0), b"entry"), (entry_key(session_id, 1), b"e")], offset
            )
        table.put(partition, [(head_key(ids[0]), None)], 100)
    for partition, ids in IDS.items():
        assert sorted(table.heads(partition)) == sorted(f"head of {session_id}".encode() for session_id in ids[1:])


async def test_what_waits_is_found_by_its_partition_until_it_waits_no_more(table: Table) -> None:
    """Whoever is given a partition fires its timers: those of other partitions are another worker's."""
    waits = {
        ids[0]: Wait(
            session_id=ids[0], call_id=call_id(turn_id(ids[0], 1), 2), due=datetime(2026, 5, partition + 1, tzinfo=UTC)
        )
        for partition, ids in IDS.items()
    }
    for partition, ids in IDS.items():
        wait = waits[ids[0]]
        table.put(partition, [(wait_key(wait.call_id), encode(wait)), (head_key(ids[0]), b"head")], 1)
    for partition, ids in IDS.items():
        assert [decode_wait(value) for value in table.waits(partition)] == [waits[ids[0]]]
        table.put(partition, [(wait_key(waits[ids[0]].call_id), None)], 4)
        assert list(table.waits(partition)) == []


async def test_heads_may_be_read_while_others_are_written(table: Table) -> None:
    """As by `expire`, which gives way to other work in between: what was there is seen, each head once."""
    ids = IDS[0]
    table.put(0, [(head_key(session_id), session_id.encode()) for session_id in ids[1:]], 1)
    heads = iter(table.heads(0))
    seen = [next(heads)]
    table.put(0, [(head_key(ids[0]), ids[0].encode()), (entry_key(ids[1], 0), b"entry")], 4)
    seen += heads
    assert sorted(value for value in seen if value != ids[0].encode()) == sorted(name.encode() for name in ids[1:])
    assert len(seen) == len(set(seen))


async def test_all_name_the_changelog(table: Table) -> None:
    """Where the recorder writes first."""
    assert table.changelog_topic.endswith("-changelog")


async def test_the_local_store_is_asked_without_a_current_event(tmp_path: Path) -> None:
    """Faust's own way needs the event of a stream, of which there is none."""
    for store, kind in (("memory", MemoryTable), ("rocksdb", RocksDBTable)):
        table = open_table(tmp_path / store, store)
        assert isinstance(table, kind)
        assert faust.current_event() is None
        table.put(1, [(HEAD_PREFIX + b"x", b"v")], 0)
        assert table.get(1, HEAD_PREFIX + b"x") == b"v"


async def test_what_was_put_survives_reopening(tmp_path: Path) -> None:
    """With the offset up to which Faust need not read the changelog again."""
    table = open_table(tmp_path, "rocksdb")
    key = head_key(IDS[1][0])
    table.put(1, [(key, b"kept"), (head_key(IDS[1][1]), b"gone")], 41)
    table.put(1, [(head_key(IDS[1][1]), None)], 42)
    close(table)
    again = open_table(tmp_path, "rocksdb")
    assert isinstance(again, RocksDBTable)
    assert again.get(1, key) == b"kept"
    assert list(again.heads(1)) == [b"kept"]
    assert persisted(again, 1) == 42
    assert persisted(again, 0) is None


def persisted(table: RocksDBTable, partition: int) -> Any:
    """The offset as Faust asks for it when it recovers the table."""
    return table._table.persisted_offset(TP(table.changelog_topic, partition))


PUT_FOR_EVER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from contract.test_table import open_table
table = open_table(Path(sys.argv[1]), "rocksdb")
n = 0
while True:
    n += 1
    table.put(0, [(b"h\\0a", b"%d" % n), (b"h\\0b", None if n % 2 else b"%d" % n), (b"t\\0a", b"%d" % n)], n)
    if n == 1000:
        print("under way", flush=True)
"""


async def test_a_put_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    """A process that writes without pause is killed with kill -9, again and again: values and offset agree."""
    root = Path(__file__).parents[2]
    for _ in range(3):
        process = subprocess.Popen(  # noqa: ASYNC220  # Nothing else runs here.
            [sys.executable, "-c", PUT_FOR_EVER, str(tmp_path), str(root / "tests")],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        with process, process.stdout:
            assert process.stdout.readline() == b"under way\n"
            process.send_signal(signal.SIGKILL)
        table = open_table(tmp_path, "rocksdb")
        assert isinstance(table, RocksDBTable)
        n = persisted(table, 0)
        assert n >= 1000
        assert table.get(0, b"h\0a") == table.get(0, b"t\0a") == b"%d" % n
        assert table.get(0, b"h\0b") == (None if n % 2 else b"%d" % n)
        close(table)
