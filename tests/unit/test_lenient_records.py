"""A header name that is not UTF-8 does not stop the reader: aiokafka alone would come back to it for ever."""

import pytest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.memory_records import MemoryRecords

from runtime.lenient_records import LenientRecords

NOT_UTF8 = b"\xffname"
GZIP = 1


class _Name(str):
    """A header name that a C client would write."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return NOT_UTF8


def batch(*names: str, compression: int = 0) -> bytes:
    builder = _DefaultRecordBatchBuilderPy(
        magic=2,
        compression_type=compression,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=100_000,
    )
    for offset, name in enumerate(names):
        builder.append(offset, 1_700_000_000_000, b"key", b"value-%d" % offset, [(name, b"\xfe")])
    return bytes(builder.build())


@pytest.mark.parametrize("compression", [0, GZIP])
def test_a_wrong_header_name_is_escaped(compression: int) -> None:
    """All records of all batches are read, once and in order, the right ones as ever and the wrong ones escaped."""
    data = (
        batch("a", _Name("x"), "b", compression=compression) + batch("c") + batch(_Name("y"), compression=compression)
    )
    with pytest.raises(UnicodeDecodeError):
        list(MemoryRecords(data).next_batch())
    records = LenientRecords(data)
    assert records.size_in_bytes() == len(data)
    read = []
    while records.has_next():
        found = records.next_batch()
        assert found.validate_crc()
        read += [(record.offset, record.key, record.value, record.headers) for record in found]
    assert read == [
        (0, b"key", b"value-0", [("a", b"\xfe")]),
        (1, b"key", b"value-1", [("\\xffname", b"\xfe")]),
        (2, b"key", b"value-2", [("b", b"\xfe")]),
        (0, b"key", b"value-0", [("c", b"\xfe")]),
        (0, b"key", b"value-0", [("\\xffname", b"\xfe")]),
    ]
