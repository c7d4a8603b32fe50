"""The scenarios of budgets: of turns and sessions, and shared ones."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from replay.stage import SUM, Stage


async def budgets(stage: Stage) -> Sequence[str]:
    """Stopped; approved and denied; a cheaper model; what is left goes to an asked agent."""
    line = stage.line
    await line.ask("budgets", SUM, id="m1", agent="frugal")
    for message, decision in (("m2", "approve"), ("m3", "deny")):
        await line.say("budgets", SUM, id=message, agent="asking")
        call = (await line.event("budgets", "approval_requested", message_id=message))["call_id"]
        await line.command("approval_decision", "budgets", call_id=call, decision=decision, by="ann")
        await stage.end(message)
    await line.ask("budgets", SUM, id="m4", agent="saving")
    await line.ask("budgets", '[[tool:ask_writer {"message": "A line."}]]', id="m5", agent="generous")
    return ["budgets", "budgets~5.2"]


async def shared_budgets(stage: Stage) -> Sequence[str]:
    """Calls that a shared budget refuses: a cheaper model goes on, people approve, the turn ends."""
    line = stage.line

    async def refuse(call_id: str, **fields: Any) -> None:
        refused = {"budget": "users", "scope": "user", "unit": "micros", "limit": 1_000, "spent": 990, "reserved": 14}
        at = datetime.now(UTC).isoformat()
        body = {"type": "spending_refused", "session_id": "shared", "call_id": call_id, "at": at, **refused, **fields}
        await line.put("session-log", orjson.dumps(body), key=b"shared")

    for message in ("m1", "m2"):
        await line.say("shared", "[[latency:2]] Go on.", id=message)
        turn = (await line.event("shared", "turn_started", message_id=message))["turn_id"]
        if message == "m1":
            await refuse(f"{turn}/1", on_breach="cheaper", cheaper_model="claude-haiku-5-5")
            await stage.end(message)
            continue
        await refuse(f"{turn}/1", on_breach="ask", approvers=["ann"])
        call = (await line.event("shared", "approval_requested", message_id=message))["call_id"]
        await line.command("approval_decision", "shared", call_id=call, decision="approve", by="ann")
        await line.event("shared", "approval_answered", message_id=message)
        await refuse(f"{turn}/3", on_breach="ask", spent=1_990)
        await stage.end(message)
    return ["shared"]
