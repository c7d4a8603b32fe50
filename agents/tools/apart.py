"""Runs a computation in a process of its own, which can be ended and cannot use up the worker's memory or its loop.

A thread could be neither: an expression of twenty characters can keep one busy for hours.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from agents.tools.port import ToolError

MAX_PROCESSES = 4
"""At the same time: each may take a processor; further calls wait."""
MAX_ANSWER_BYTES = 4 << 20
PATH = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)


class Bounds(Struct, frozen=True, kw_only=True):
    """What one computation may take."""

    seconds: float = 20.0  # Waited for, on a machine that has other things to do as well.
    cpu_s: int = 5
    memory_bytes: int = 512 << 20  # Of addresses, which are more than what is in use.


class Apart:
    """The processes of one worker."""

    def __init__(self, processes: int | None = None, bounds: Bounds | None = None) -> None:
        self._places = asyncio.Semaphore(processes or min(MAX_PROCESSES, os.cpu_count() or 1))
        self._bounds = bounds or Bounds()

    async def run(self, name: str, **arguments: Any) -> str:
        """The result of `agents.apart.<name>`.

        Raises:
            ToolError: it was refused, or took too long or too much.
            RuntimeError: it has a bug; the message is its traceback.
        """
        async with self._places:
            answer = await self._answer(name, msgspec.json.encode(arguments))
        match answer:
            case {"result": str(result)}:
                return result
            case {"refused": str(message)}:
                raise ToolError(message)
            case _:
                raise RuntimeError(f"the computation {name} failed: {answer}")

    async def _answer(self, name: str, payload: bytes) -> Any:
        process = await self._start(name)
        try:
            async with asyncio.timeout(self._bounds.seconds):
                written = await _exchange(process, payload)
                await process.wait()
        except TimeoutError as error:
            raise self._too_much() from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if not written:
            raise self._too_much()
        return msgspec.json.decode(written)

    async def _start(self, name: str) -> asyncio.subprocess.Process:
        limits = (str(self._bounds.memory_bytes), str(self._bounds.cpu_s))
        # The environment has the secrets of the worker, which nothing in there needs.
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-s", "-m", "agents.apart.run", name, *limits),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PYTHONPATH": PATH, "PYTHONUTF8": "1", "PATH": os.defpath},
            cwd="/",
            start_new_session=True,
        )

    def _too_much(self) -> ToolError:
        return ToolError(
            f"it did not finish within {self._bounds.cpu_s} s of computing and "
            f"{self._bounds.memory_bytes >> 20} MiB of memory: ask for less, or in a simpler way"
        )


async def _exchange(process: asyncio.subprocess.Process, payload: bytes) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(payload)
        await process.stdin.drain()
        process.stdin.close()
    except (BrokenPipeError, ConnectionResetError):
        return b""
    written = bytearray()
    while chunk := await process.stdout.read(1 << 16):
        written += chunk
        if len(written) > MAX_ANSWER_BYTES:
            return b""
    return bytes(written)
