"""Cutting a byte stream into server-sent events."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.models.sse import MAX_EVENT_BYTES, EventTooLargeError, SseDecoder

LINE_ENDS = [b"\n", b"\r\n", b"\r"]
# Data as the API sends it: JSON, so no line ends of any kind in it.
payloads = st.lists(st.binary(min_size=1, max_size=40).map(lambda data: data.hex().encode()), max_size=8)


def wire(data: list[bytes], line_end: bytes) -> bytes:
    events = [b"event: x" + line_end + b"data: " + one + line_end + line_end for one in data]
    # A comment at the end, so that a CR that ends the last event is known not to be half of a CR LF.
    return b"".join(events) + b": the end" + line_end


@given(payloads, st.sampled_from(LINE_ENDS), st.lists(st.integers(0, 600), max_size=30))
def test_cut_anywhere(data: list[bytes], line_end: bytes, cuts: list[int]) -> None:
    """However the network cuts the bytes, and whichever line end is used, the same events come out."""
    stream = wire(data, line_end)
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    decoder = SseDecoder()
    found = [one for start, end in itertools.pairwise(places) for one in decoder.feed(stream[start:end])]
    assert found == data


def test_byte_by_byte_with_cr_lf() -> None:
    """A CR LF that is cut between its bytes is one line end, not an empty line."""
    decoder = SseDecoder()
    stream = b"event: a\r\ndata: 1\r\n\r\ndata: 2\r\n\r\n"
    assert [one for index in range(len(stream)) for one in decoder.feed(stream[index : index + 1])] == [b"1", b"2"]


def test_lines_that_are_not_data() -> None:
    """Comments, ids and events without data give nothing; several data lines are one text."""
    stream = b": hello\n\nid: 7\nevent: ping\n\nretry: 5\ndata: a\ndata:b\n\ndata: c"
    assert SseDecoder().feed(stream) == [b"a\nb"]


def test_an_event_without_end_is_refused() -> None:
    """A server that never ends an event cannot fill the memory."""
    decoder = SseDecoder()
    decoder.feed(b"data: ")
    with pytest.raises(EventTooLargeError):
        decoder.feed(b"x" * (MAX_EVENT_BYTES + 1))
