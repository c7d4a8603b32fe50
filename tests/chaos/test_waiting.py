"""Calls that wait, for people or for agents, while everything dies around them."""

import asyncio
from pathlib import Path

from chaos.cluster import Cluster, release
from line import Line

AGENTS = Path(__file__).parent / "waiting.toml"
SUM = '[[tool:calculator {"expression": "17*23"}]]'
CHILDREN = 5
ENDED = 2


async def test_calls_wait_for_people_across_a_restart_of_everything(frail_cluster: Cluster) -> None:
    """Broker and worker are killed: one call is approved by two, with other arguments; one expires, once."""
    cluster = frail_cluster
    cluster.environment["HEADRACE_AGENTS"] = str(AGENTS)
    await cluster.start()
    (worker,) = cluster.workers
    async with Line(cluster.kafka.bootstrap) as line:
        await line.say("decided", SUM, id="m1", agent="careful")
        await line.say("expired", SUM, id="m2", agent="impatient")
        call = (await line.event("decided", "approval_requested"))["call_id"]
        await line.event("expired", "approval_requested")
        await line.command("approval_decision", "decided", call_id=call, decision="approve", by="ann")
        await line.event("decided", "approval_answered", by="ann", remaining=1)
        await worker.kill()
        await cluster.kafka.kill()
        await cluster.kafka.start()
        await worker.start()
        changed = {"expression": "6*7"}
        for by, more in (("mallory", {}), ("bob", {"input": changed}), ("ann", {})):
            await line.command("approval_decision", "decided", call_id=call, decision="approve", by=by, **more)
        end = await line.end("decided", "m1")
        assert end["type"] == "turn_completed"
        returned = await line.event("decided", "tool_returned")
        assert returned["content"].startswith("(The call was approved with other arguments")
        assert returned["content"].endswith("42")
        await line.command("approval_decision", "decided", call_id=call, decision="deny", by="bob")
        await line.until(
            lambda: (
                {"not_an_approver", "nothing_to_approve"} <= {letter["cause"] for letter in line.bodies("dead-letters")}
            ),
            "two refused decisions",
        )
        assert (await line.end("expired", "m2"))["type"] == "turn_completed"
        decisions = [event["decision"] for event in line.events("expired") if event["type"] == "approval_answered"]
        assert decisions == ["expired"]
        fired = [fact for fact in line.bodies("session-log") if fact["type"] == "timer_fired"]
        assert {fact["session_id"] for fact in fired} == {"expired"}


async def test_children_that_have_ended_are_not_asked_again(cluster: Cluster) -> None:
    """The workers are killed amid five children that run beside each other, of which some have ended."""
    cluster.environment["HEADRACE_AGENTS"] = str(AGENTS)
    await cluster.start(workers=2)
    async with Line(cluster.kafka.bootstrap, cluster.topic_prefix) as line:
        orders = [
            f'[[tool:ask_writer {{"message": "{"" if number < ENDED else "[[hold:parts]]"} Part {number}."}}]]'
            for number in range(CHILDREN)
        ]
        await line.say("asks", " ".join(orders), id="m1", agent="lead")
        children = [f"asks~1.{number + 2}" for number in range(CHILDREN)]
        for child in children[:ENDED]:
            await line.event(child, "turn_completed")
        for worker in cluster.workers:
            await worker.kill()
        # What was on its way when they died may be missing here, and is then not counted as ended.
        ended = {event["session_id"] for event in line.bodies("agent-events") if event["type"] == "turn_completed"}
        await asyncio.gather(*(worker.start() for worker in cluster.workers))
        await release(cluster, "parts")
        end = await line.end("asks", "m1")
        assert end["type"] == "turn_completed"
        assert [line.events(child)[-1]["type"] for child in children] == ["turn_completed"] * CHILDREN
        results = [event for event in line.events("asks") if event["type"] == "tool_returned"]
        assert sorted(event["child_session_id"] for event in results) == children
        assert [event["is_error"] for event in results] == [False] * CHILDREN
    calls = await cluster.model_calls()
    assert ended == set(children[:ENDED])
    assert {child: calls[f"{child}/1/1"]["started"] for child in ended} == dict.fromkeys(ended, 1)
    assert all(calls[f"asks/1/{step}"]["completed"] == 1 for step in (1, 2 + CHILDREN))
