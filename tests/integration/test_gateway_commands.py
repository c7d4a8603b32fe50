"""Commands through the gateway: each as it was meant, once, and with its answer where that is waited for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from client_fixture import Stand, completed, stand_in, started
from gateway_fixture import Door, projecting

from headrace.records import read_topic
from schemas.commands import ApprovalDecision, CancelTurn, EndSession
from schemas.events import AgentEvent
from schemas.topics import USER_MESSAGES

pytestmark = pytest.mark.asyncio(loop_scope="session")
TEXT = {"text": "hello"}


async def test_the_other_commands(gateway: Door) -> None:
    """Cancel and end need no body; who asks is the key's name, unless they say so."""
    key = await gateway.key(None)
    paths = ("cancel", "cancel", "approvals", "end")
    bodies: tuple[Any, ...] = (
        None,
        {"message_id": "m1", "reason": "no", "by": "ann"},
        {"call_id": "s/1/2", "decision": "deny", "reason": "never", "id": "d1"},
        None,
    )
    for path, body in zip(paths, bodies, strict=True):
        arguments = {} if body is None else {"json": body}
        answer = await gateway.ask("POST", f"/v1/sessions/s/{path}", key, **arguments)
        assert answer.status == 202, answer.text
    async with stand_in(gateway.settings) as stand:
        cancel, cancel_one, denial, end = [await stand.next_command() for _ in paths]
    assert isinstance(cancel, CancelTurn)
    assert (cancel.message_id, cancel.by) == (None, "key of an operator")
    assert isinstance(cancel_one, CancelTurn)
    assert (cancel_one.message_id, cancel_one.reason, cancel_one.by) == ("m1", "no", "ann")
    assert denial == ApprovalDecision(
        session_id="s", id="d1", call_id="s/1/2", decision="deny", reason="never", by="key of an operator"
    )
    assert isinstance(end, EndSession)


async def test_the_same_command_twice(gateway: Door) -> None:
    """The same id and body is accepted again, and answered once by the pipeline; another body is refused."""
    key = await gateway.key(None)
    once = {"Idempotency-Key": "k1"}
    first = await gateway.post("/v1/sessions/s/messages", key, TEXT, headers=once)
    again = await gateway.post("/v1/sessions/s/messages", key, TEXT, headers=once)
    assert (first.status, again.status) == (202, 202)
    assert first.body["id"] == again.body["id"] == "k1"
    other = await gateway.post("/v1/sessions/s/messages", key, {"text": "other"}, headers=once)
    assert (other.status, other.body["code"]) == (422, "other_body")
    cancel = await gateway.post("/v1/sessions/s/cancel", key, {}, headers=once)
    assert (cancel.status, cancel.body["code"]) == (422, "other_body")
    elsewhere = await gateway.post("/v1/sessions/s2/messages", key, {"text": "other"}, headers=once)
    assert elsewhere.status == 202
    own = await gateway.post("/v1/sessions/s3/messages", key, {**TEXT, "id": "own"}, headers=once)
    assert own.body["id"] == "own"
    bad = await gateway.post("/v1/sessions/s/messages", key, TEXT, headers={"Idempotency-Key": "a b"})
    assert (bad.status, bad.body["code"]) == (400, "not_valid")


def recent(*events: AgentEvent) -> list[AgentEvent]:
    """The feed keeps what is not older than a day."""
    return [msgspec.structs.replace(event, at=datetime.now(UTC)) for event in events]


@asynccontextmanager
async def answering(door: Door) -> AsyncIterator[Stand]:
    async with projecting(door.settings, "live"), stand_in(door.settings) as stand:
        yield stand


async def test_waiting_for_the_answer(gateway: Door) -> None:
    """200 with the end of the message's own turn; a message that was answered before has its end at once."""
    key = await gateway.key(None)
    async with answering(gateway) as stand:
        await stand.publish(*recent(started("s", "before", 1), completed("s", "before", 2)))
        asking = asyncio.create_task(
            gateway.post("/v1/sessions/s/messages?wait=60", key, TEXT, headers={"Idempotency-Key": "m"})
        )
        await stand.next_command()
        await stand.publish(*recent(started("s", "m", 3, turn=2), completed("s", "m", 4, "the answer", turn=2)))
        answer = await asking
        assert answer.status == 200, answer.text
        assert (answer.body["id"], answer.body["end"]["type"]) == ("m", "turn_completed")
        assert answer.body["end"]["text"] == "the answer"
        again = await gateway.post("/v1/sessions/s/messages?wait=60", key, TEXT, headers={"Idempotency-Key": "m"})
        assert (again.status, again.body["end"]) == (200, answer.body["end"])


async def test_waiting_ends_without_an_answer(gateway: Door) -> None:
    """202 when time is up: the message stays accepted; a wrong `wait` is refused before anything is sent."""
    key = await gateway.key(None)
    answer = await gateway.post("/v1/sessions/s/messages?wait=1", key, TEXT)
    assert answer.status == 202, answer.text
    for query in ("wait=0", "wait=121", "wait=x", "wait=1&wait=2", "wait=", "weit=3", "wait=nan"):
        answer = await gateway.post(f"/v1/sessions/s/messages?{query}", key, TEXT)
        assert (answer.status, answer.body["code"]) == (400, "not_valid"), query
    assert len([record async for record in read_topic(gateway.settings, USER_MESSAGES)]) == 1
