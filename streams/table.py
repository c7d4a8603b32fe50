"""The sessions' table on Faust: Faust assigns its partitions and recovers it; what is written goes past Faust.

Faust's own writes need a current event, go to the changelog one at a time, and reach the local store before the broker.
Here the recorder writes the changelog itself, and the local store takes what the broker has acknowledged.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import faust
import rocksdict
from faust.stores.rocksdb import Store as RocksDBStore

from streams.store import HEAD_PREFIX, WAIT_PREFIX


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
        return self._values(partition, HEAD_PREFIX)

    def waits(self, partition: int) -> Iterator[bytes]:
        return self._values(partition, WAIT_PREFIX)

    def _values(self, partition: int, prefix: bytes) -> Iterator[bytes]:
        for key, value in self._database(partition).items(from_key=prefix):
            if not key.startswith(prefix):
                return
            yield value

    def keep(self, partitions: Collection[int]) -> None:
        """Nothing is to do: Faust closes the others."""

    def _database(self, partition: int) -> Any:
        return self._table.data._db_for_partition(partition)  # noqa: SLF001  # Its public way needs a current event.


class MemoryTable:
    """A dictionary per partition, read from the whole changelog when the worker is given the partition."""

    def __init__(self, table: faust.Table) -> None:
        self.changelog_topic: str = table.changelog_topic_name
        self._partitions: dict[int, dict[bytes, bytes]] = {}
        self._offsets: dict[int, int] = {}

    def get(self, partition: int, key: bytes) -> bytes | None:
        return self._partitions.get(partition, {}).get(key)

    def put(self, partition: int, items: Sequence[tuple[bytes, bytes | None]], changelog_offset: int) -> None:
        data = self._partitions.setdefault(partition, {})
        for key, value in items:
            if value is None:
                data.pop(key, None)
            else:
                data[key] = value
        self._offsets[partition] = changelog_offset

    def heads(self, partition: int) -> Iterator[bytes]:
        return self._values(partition, HEAD_PREFIX)

    def waits(self, partition: int) -> Iterator[bytes]:
        return self._values(partition, WAIT_PREFIX)

    def _values(self, partition: int, prefix: bytes) -> Iterator[bytes]:
        for key, value in list(self._partitions.get(partition, {}).items()):
            if key.startswith(prefix):
                yield value

    def offset(self, partition: int) -> int | None:
        """The changelog offset that the partition reflects."""
        return self._offsets.get(partition)

    def keep(self, partitions: Collection[int]) -> None:
        """Forget all other partitions."""
        for partition in self._partitions.keys() - set(partitions):
            del self._partitions[partition], self._offsets[partition]
