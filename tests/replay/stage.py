"""Where a scenario plays."""

from dataclasses import dataclass
from typing import Any

from chaos.cluster import Worker
from chaos.promise import ENDS
from line import Line

SUM = '[[tool:calculator {"expression": "17*23"}]]'
WAIT_S = 60.0


@dataclass(frozen=True)
class Stage:
    """Where a scenario plays."""

    line: Line
    worker: Worker

    async def end(self, message_id: str, count: int = 1) -> dict[str, Any]:
        """The end of a message, in whatever life of its session."""

        def find() -> list[dict[str, Any]]:
            events = self.line.bodies("agent-events")
            ends = [event for event in events if event["message_id"] == message_id and event["type"] in ENDS]
            return ends if len(ends) >= count else []

        return (await self.line.until(find, f"an end of {message_id}", WAIT_S))[-1]

    async def refused(self, session_id: str) -> None:
        """A command of the session became a dead letter."""
        letters = self.line
        await letters.until(
            lambda: [letter for letter in letters.bodies("dead-letters") if letter["session_id"] == session_id],
            f"a dead letter of {session_id}",
        )

    async def fact(self, session_id: str, type_tag: str) -> dict[str, Any]:
        """The first fact of this type."""

        def find() -> list[dict[str, Any]]:
            facts = self.line.bodies("session-log")
            return [fact for fact in facts if fact["session_id"] == session_id and fact["type"] == type_tag]

        return (await self.line.until(find, f"{type_tag} of {session_id}", WAIT_S))[0]
