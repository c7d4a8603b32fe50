"""A TCP proxy before the brokers whose network can be slow, cut in either direction, or reset."""

import asyncio
import socket
import struct
from enum import Flag, auto

CHUNK_BYTES = 1 << 16
LINGER_NONE = struct.pack("ii", 1, 0)
"""Closed like this, a socket sends RST instead of FIN."""


class Way(Flag):
    """A direction in which bytes go."""

    IN = auto()
    """To the brokers."""
    OUT = auto()
    """To the clients."""


BOTH = Way.IN | Way.OUT


class Proxy:
    """Listens on `port`, and hands everything on to `target`, a port of this machine.

    What a cut holds back is delivered when it is mended, as TCP repeats what was lost: requests that somebody gave up
    long ago arrive then. Use `reset` before `mend` to have it lost.
    """

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self.target = target
        self.held_back_bytes = 0
        """What cuts have kept from its way so far."""
        self._latency_s = 0.0
        self._refuses = False
        self._open = {way: asyncio.Event() for way in (Way.IN, Way.OUT)}
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """What clients are told."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.mend()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self.reset()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def cut(self, ways: Way) -> None:
        """Nothing gets through in these directions any more; connections stay open, as with a cable pulled out."""
        for way in ways:
            self._open[way].clear()

    def mend(self) -> None:
        """What was held back goes on its way, and who connects is let in."""
        self._refuses = False
        for gate in self._open.values():
            gate.set()

    def delay(self, seconds: float) -> None:
        """From now on, bytes take so long in each direction."""
        self._latency_s = seconds

    def refuse(self) -> None:
        """All connections are reset, and so is each new one, as where nobody listens."""
        self._refuses = True
        self.reset()

    def reset(self) -> None:
        """All connections end with RST; what was under way is lost."""
        for end in self._ends:
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
            end.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._ends |= {writer, back}
        pumps = [
            asyncio.create_task(self._pump(reader, back, Way.IN)),
            asyncio.create_task(self._pump(there, writer, Way.OUT)),
        ]
        self._pumps.update(pumps)
        for pump in pumps:
            pump.add_done_callback(self._pumps.discard)
        # Either end that is gone takes the other with it.
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, back):
            self._ends.discard(end)
            end.close()
        for pump in pumps:
            pump.cancel()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivering = asyncio.create_task(self._deliver(waiting, writer, way))
        loop = asyncio.get_running_loop()
        try:
            while data := await reader.read(CHUNK_BYTES):
                waiting.put_nowait((loop.time() + self._latency_s, data))
            await waiting.join()
        except ConnectionError:
            return  # The other end is closed for it.
        finally:
            delivering.cancel()

    async def _deliver(
        self, waiting: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter, way: Way
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await waiting.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not self._open[way].is_set():
                self.held_back_bytes += len(data)
                await self._open[way].wait()
            if not writer.is_closing():
                writer.write(data)
            waiting.task_done()
