"""Reading records whose header names are not UTF-8, as C clients can write them.

aiokafka raises in the middle of its fetch and comes to the same record at each try: one such record, from anyone who
may write to a topic, would stop every reader of its partition for ever.
"""

import itertools
import struct
from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

_LENGTH = struct.Struct(">i")
_LENGTH_AT = 8
_BEFORE_LENGTH_ENDS = 12
"""A batch begins with its offset (8 bytes) and the length of the rest (4 bytes), in every version of the format."""


def accept_any_header_name() -> None:
    """Make aiokafka's consumers of this process read them, with a wrong byte escaped: a backslash, `x`, two digits."""
    fetcher.MemoryRecords = LenientRecords


class LenientRecords:
    """The batches of one fetch of a partition, as aiokafka's `MemoryRecords`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._records = MemoryRecords(data)
        self._at = 0

    def size_in_bytes(self) -> int:
        return int(self._records.size_in_bytes())

    def has_next(self) -> bool:
        return bool(self._records.has_next())

    def next_batch(self) -> Any:
        begin = self._at
        self._at += _BEFORE_LENGTH_ENDS + _LENGTH.unpack_from(self._data, begin + _LENGTH_AT)[0]
        return _Batch(self._records.next_batch(), self._data, begin, self._at)


class _Batch:
    """A batch that is read again, in Python, from the record on that aiokafka's own reader cannot read."""

    def __init__(self, batch: Any, data: bytes, begin: int, end: int) -> None:
        self._batch = batch
        self._data = data
        self._begin = begin
        self._end = end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        read = 0
        try:
            for record in self._batch:
                read += 1
                yield record
        except UnicodeDecodeError:
            yield from itertools.islice(_LenientBatch(self._data[self._begin : self._end]), read, None)


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]  # aiokafka is not typed.
    _buffer: bytearray

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _LenientBuffer(self._buffer)


class _LenientBuffer(bytearray):
    """Whose slices decode whatever they hold."""

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return _LenientSlice(found) if isinstance(index, slice) else found


class _LenientSlice(bytearray):
    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        del errors
        return super().decode(encoding, "backslashreplace")
