"""Clients for `readers.py`, as cheap as they can be: each remembers what it saw, and when."""

import asyncio
import base64
import os
import random
import re
import struct
import time
from abc import ABC, abstractmethod
from typing import cast

import msgspec

SSE_FRAME = re.compile(rb"id: (\d+)-(\d+)\nevent: (\w+)\n")
WS_FRAME = re.compile(rb'"resume":"(\d+)-(\d+)"')
WS_KIND = re.compile(rb'^\{"type":"(\w+)"')
RETRY_S = 0.3

Seen = tuple[int, int, float]
"""The `seq` of an event or 0, 1 + the offset of a delta or 0, and when it came (seconds since 1970)."""


class Reader(asyncio.Protocol, ABC):
    """One connection after the other, each from where the last one was; remembers what it saw and when."""

    def __init__(self, session_id: str, host: str, port: int) -> None:
        self.session_id = session_id
        self.host = host
        self.port = port
        self.event = self.delta = 0
        self.seen: list[Seen] = []
        self.connections = 0
        self.is_ready = asyncio.Event()
        self.buffer = bytearray()
        self.transport: asyncio.Transport | None = None

    async def connect(self) -> None:
        while True:
            try:
                await asyncio.get_running_loop().create_connection(lambda: self, self.host, self.port)
            except OSError:
                await asyncio.sleep(RETRY_S * (0.5 + random.random()))
            else:
                return

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is one in all but its base class.
        self.transport = cast("asyncio.Transport", transport)
        self.connections += 1
        self.buffer.clear()
        self.hello(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        loop = asyncio.get_running_loop()
        loop.call_later(RETRY_S * (0.5 + random.random()), lambda: loop.create_task(self.connect()))

    def saw(self, event: int, delta: int) -> None:
        """A frame at this position."""
        now = time.time()
        if delta != self.delta:
            self.seen.append((0, delta, now))
        elif event != self.event:
            self.seen.append((event, 0, now))
        else:
            self.seen.append((-1, -1, now))
        self.event, self.delta = event, delta

    @property
    def position(self) -> str:
        return f"{self.event}-{self.delta}"

    @abstractmethod
    def hello(self, transport: asyncio.Transport) -> None:
        """Ask for what comes after `position`."""


class SseReader(Reader):
    def hello(self, transport: asyncio.Transport) -> None:
        request = (
            f"GET /v1/sessions/{self.session_id}/events HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
            f"Last-Event-ID: {self.position}\r\n\r\n"
        )
        transport.write(request.encode())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.is_ready.is_set() and b"retry:" in self.buffer:
            self.is_ready.set()
        end = self.buffer.rfind(b"\n\n")
        if end < 0:
            return
        for match in SSE_FRAME.finditer(self.buffer, 0, end):
            self.saw(int(match[1]), int(match[2]))
        del self.buffer[: end + 2]


class WebSocketReader(Reader):
    def hello(self, transport: asyncio.Transport) -> None:
        self.is_open = False
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET /v1/ws HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        transport.write(request.encode())
        body = msgspec.json.encode({"type": "follow", "session_id": self.session_id, "after": self.position})
        self.send(transport, 1, body)

    def send(self, transport: asyncio.Transport, opcode: int, body: bytes) -> None:
        """A client's frames are masked; a mask of zeros leaves them as they are."""
        length = bytes([0x80 | len(body)]) if len(body) < 126 else b"\xfe" + struct.pack("!H", len(body))
        transport.write(bytes([0x80 | opcode]) + length + bytes(4) + body)

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer
        buffer += data
        if not self.is_open:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self.is_open = True
            del buffer[: end + 4]
        at = 0
        while len(buffer) - at >= 2:
            length, begin = buffer[at + 1] & 0x7F, at + 2
            if length == 126:
                if len(buffer) - at < 4:
                    break
                length, begin = struct.unpack_from("!H", buffer, at + 2)[0], at + 4
            elif length == 127:
                if len(buffer) - at < 10:
                    break
                length, begin = struct.unpack_from("!Q", buffer, at + 2)[0], at + 10
            if len(buffer) < begin + length:
                break
            self.frame(buffer[at] & 0x0F, bytes(buffer[begin : begin + length]))
            at = begin + length
        del buffer[:at]

    def frame(self, opcode: int, body: bytes) -> None:
        if opcode == 9 and self.transport is not None:
            self.send(self.transport, 10, body)
        kind = WS_KIND.match(body)
        if kind is None:
            return
        if kind[1] == b"followed":
            self.is_ready.set()
        elif kind[1] in (b"chat", b"status", b"tool_use"):
            place = WS_FRAME.search(body)
            # The final text comes at the position before the end of its turn, which comes next.
            if place is not None and b'"state":"final"' not in body[:200]:
                self.saw(int(place[1]), int(place[2]))
