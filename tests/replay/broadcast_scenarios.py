"""Broadcasts that are recorded: from outside, that gather, and of an agent."""

from collections.abc import Sequence

import orjson
from chaos.promise import ENDS
from replay.stage import SUM, Stage


async def broadcast(stage: Stage) -> Sequence[str]:
    """One message to two agents."""
    body = {"id": "b1", "text": f"{SUM} For everyone.", "audience": ["assistant", "writer"], "sender": "ann"}
    await stage.line.put("broadcasts", orjson.dumps(body))
    sessions = ["b1:assistant", "b1:writer"]

    def find() -> bool:
        ended = {event["session_id"] for event in stage.line.bodies("agent-events") if event["type"] in ENDS}
        return ended >= set(sessions)

    await stage.line.until(find, "an answer of both")
    return sessions


async def gathering(stage: Stage) -> Sequence[str]:
    """Two agents are asked at once: the first answer is enough, and the other one is late."""
    body = {"id": "b2", "text": "[[latency:0.5]] Who is first?", "audience": ["assistant", "writer"], "gather": "first"}
    await stage.line.put("broadcasts", orjson.dumps(body))
    for name in body["audience"]:
        await stage.line.event("b2:@", "broadcast_replied", agent=name)
    return ["b2:@"]


async def broadcasting(stage: Stage) -> Sequence[str]:
    """An agent broadcasts: two answer; of one nothing is awaited; one that there is not; cancelled."""
    line = stage.line

    def cast(text: str, gather: str, *agents: str) -> str:
        arguments = orjson.dumps({"message": text, "agents": agents, "gather": gather})
        return f"[[tool:broadcast {arguments.decode()}]]"

    await line.ask("casts", f"{cast('A line.', 'all', 'writer', 'generous')} All of you.", id="m1", agent="chair")
    await line.ask("casts", f"{cast('Note this.', 'none', 'writer')} And you.", id="m2")
    await line.ask("casts", f"{cast('Hello?', 'all', 'nobody')} Anybody?", id="m3")
    await line.say("casts", f"{cast('[[latency:3]] Slowly.', 'first', 'writer')} Hurry.", id="m4")
    await line.event("casts~4.2:@", "broadcast_delivered")
    await line.command("cancel_turn", "casts", by="ann")
    await stage.end("m4")
    for number in (2, 4):
        await line.event(f"casts~{number}.2:@", "broadcast_replied")
    return ["casts", "casts~1.2:@", "casts~2.2:@", "casts~4.2:@", "@chair"]
