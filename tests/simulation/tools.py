"""The tools of the simulation: the real toolbox, over functions whose outcomes the scheduler gives, or never gives."""

import asyncio
from contextvars import ContextVar
from typing import Any, Protocol

from simulation.cast import IDEMPOTENT, REMOTE
from simulation.script import Calls

from agents.tools import Tool, Toolbox, tool
from agents.tools.port import ToolContext, ToolOutcome

TIMEOUTS_S = {"add": 2.0, "pay": 4.0, "send": 1_000.0, "mail": 2.0}
"""Of an attempt. That of `send` is longer than any turn has left."""
ATTEMPTS = {"add": 3, "pay": 1, "send": 1, "mail": 2}
BACKOFF_S = 0.3
"""In the place of one that is drawn from no seed."""
SLACK_S = 10.0
"""How late a timer may ring: time passes in leaps of up to 4 s."""


class Caller(Protocol):
    """The worker that runs a tool."""

    calls: Calls
    naps: int
    """How often it was paused: its timers are late then."""

    def began(self, session_id: str, call_id: str, tool: str | None = None) -> str: ...


caller: ContextVar[Caller] = ContextVar("caller")


def _declared(name: str) -> Tool:
    async def run(n: int, context: ToolContext) -> str:
        del n
        worker = caller.get()
        return await worker.calls.tool(worker.began(context.session_id, context.call_id, name))

    run.__doc__ = f"The tool {name}."
    declare = tool(name=name, timeout_s=TIMEOUTS_S[name], attempts=ATTEMPTS[name], idempotent=IDEMPOTENT[name])
    return declare(run)


TOOLS = [_declared(name) for name in IDEMPOTENT]


class ScriptedTools(Toolbox):
    """The tools of one worker. Each call must end within its time, however silent its tool is."""

    def __init__(self, worker: Caller) -> None:
        super().__init__(TOOLS, remote=REMOTE)
        self._worker = worker

    async def run(self, name: str, input: dict[str, Any], *, context: ToolContext, timeout_s: float) -> ToolOutcome:
        worker, now = self._worker, asyncio.get_running_loop().time
        caller.set(worker)
        naps, begun = worker.naps, now()
        try:
            return await super().run(name, input, context=context, timeout_s=timeout_s)
        finally:
            tries = ATTEMPTS[name]
            limit_s = min(timeout_s, tries * (TIMEOUTS_S[name] + BACKOFF_S))
            took_s = now() - begun
            if worker.naps == naps and took_s > limit_s + tries * SLACK_S:
                worker.calls.overruns.append(f"{context.call_id} took {took_s:.0f} s, of {limit_s:.0f} s")
