"""The streams that are open: server-sent events and WebSockets. They are counted, bounded, and ended at a stop."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.metrics import Metrics
from gateway.problems import Code, Problem


class OpenStreams:
    """`closing` is set when the gateway stops: each stream ends itself then, so that its reader resumes elsewhere."""

    def __init__(self, most: int, metrics: Metrics) -> None:
        self.closing = asyncio.Event()
        self.count = 0
        self._most = most
        self._metrics = metrics

    @contextmanager
    def opened(self, kind: str) -> Iterator[None]:
        """Counts a stream, `sse` or `websocket`, while it is open; raises `Problem(too_many_streams or stopping)`."""
        if self.closing.is_set():
            raise Problem(Code.STOPPING, "this gateway stops: connect again", headers={"Retry-After": "1"})
        if self.count >= self._most:
            raise Problem(
                Code.TOO_MANY_STREAMS,
                f"expected at most {self._most} open streams on this gateway: try again later",
                headers={"Retry-After": "5"},
            )
        self.count += 1
        self._metrics.open_streams.labels(kind).inc()
        try:
            yield
        finally:
            self.count -= 1
            self._metrics.open_streams.labels(kind).dec()
