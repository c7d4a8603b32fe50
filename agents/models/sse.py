"""Server-sent events: bytes, cut anywhere, to the data of whole events. Pure and incremental.

Only the data is read: the Messages API repeats the name of each event as the `type` in its JSON.
"""

MAX_EVENT_BYTES = 1 << 20
"""An event is a few dozen bytes, at most a thinking signature of some 10 KB; 1 MiB unfinished is no event any more."""


class EventTooLargeError(Exception):
    """An event grew beyond MAX_EVENT_BYTES without an end: this is not the stream that was expected."""


class SseDecoder:
    """Cuts a stream into events (WHATWG HTML, 9.2). LF, CR LF and CR all end a line, an empty line ends an event."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events that `chunk` completes.

        Raises:
            EventTooLargeError: no end of an event within MAX_EVENT_BYTES.
        """
        text = self._rest + chunk if self._rest else chunk
        # A `\r` at the end may be the first half of `\r\n`, so it waits for what follows.
        held = b""
        if b"\r" in text:
            if text.endswith(b"\r"):
                held, text = b"\r", text[:-1]
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *events, rest = text.split(b"\n\n")
        if len(rest) > MAX_EVENT_BYTES:
            raise EventTooLargeError(
                f"an event of at most {MAX_EVENT_BYTES} bytes was expected, got {len(rest)} so far"
            )
        self._rest = rest + held
        return [data for event in events if (data := _data(event))]


def _data(event: bytes) -> bytes:
    # Nearly every event is one line with its name and one with its data.
    name, _, data = event.partition(b"\ndata: ")
    if data and b"\n" not in data and b"data:" not in name:
        return data
    lines = [_value(line) for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)


def _value(line: bytes) -> bytes:
    return line[6:] if line.startswith(b"data: ") else line[5:]
