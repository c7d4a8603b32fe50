"""Learns when an MCP connection ends: the library tells only those whose call is under way."""

import asyncio
from types import TracebackType
from typing import Self

from mcp.client._transport import ReadStream
from mcp.shared.message import SessionMessage

Message = SessionMessage | Exception


class Watched:
    """A connection's incoming messages; `ended` is set after the last one."""

    def __init__(self, stream: ReadStream[Message], ended: asyncio.Event) -> None:
        self._stream = stream
        self._ended = ended

    async def receive(self) -> Message:
        return await self._stream.receive()

    async def aclose(self) -> None:
        self._ended.set()
        await self._stream.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        try:
            return await self._stream.__anext__()
        except BaseException:
            self._ended.set()
            raise

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._ended.set()
        return await self._stream.__aexit__(kind, error, traceback)
