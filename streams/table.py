"""The sessions' table on Faust: Faust assigns its partitions and recovers it; what is written goes past Faust.

Faust's own writes need a current event, go to the changelog one at a time, and reach the local store before the broker.
Here the recorder writes the changelog itself, and the local store takes what the broker has acknowledged.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import faust
import rocksdict
from faust.stores.rocksdb import Store as RocksDBStore

from runtime.kafka import partition_for
from streams.store import HEAD_PREFIX


class RocksDBTable:
    """One RocksDB database per partition; it knows the changelog offset that it reflects."""

    def __init__(self, table: faust.Table) -> None:
        self._table = table
        self.changelog_topic: str = table.changelog_topic_name

    def get(self, partition: int, key: bytes) -> bytes | None:
        value: bytes | None = self._database(partition).get(key)
        return value

    def put(self, partition: int, items: Sequence[tuple[bytes, bytes | None]], changelog_offset: int) -> None:
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in items:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        # In the same batch: the offset and the data reach the disk together.
        batch.put(RocksDBStore.offset_key, str(changelog_offset).encode())
        self._database(partition).write(batch)

    def heads(self, partition: int) -> Iterator[bytes]:
        for key, value in self._database(partition).items(from_key=HEAD_PREFIX):
            if not key.startswith(HEAD_PREFIX):
                return
            yield value

    def _database(self, partition: int) -> Any:
        return self._table.data._db_for_partition(partition)  # noqa: SLF001  # Its public way needs a current event.


class MemoryTable:
    """A dictionary, read back from the whole changelog at each start."""

    def __init__(self, table: faust.Table, partitions: int) -> None:
        self._table = table
        self._partitions = partitions
        self.changelog_topic: str = table.changelog_topic_name

    def get(self, partition: int, key: bytes) -> bytes | None:
        del partition
        value: bytes | None = self._table.data.data.get(key)
        return value

    def put(self, partition: int, items: Sequence[tuple[bytes, bytes | None]], changelog_offset: int) -> None:
        del partition, changelog_offset
        for key, value in items:
            if value is None:
                self._table.data.data.pop(key, None)
            else:
                self._table.data.data[key] = value

    def heads(self, partition: int) -> Iterator[bytes]:
        for key, value in list(self._table.data.data.items()):
            if key.startswith(HEAD_PREFIX) and partition_for(key[len(HEAD_PREFIX) :], self._partitions) == partition:
                yield value
