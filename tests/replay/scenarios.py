"""The sessions that are recorded: each plays on a pipeline of its own, and says which sessions it was."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import orjson
from replay.broadcast_scenarios import broadcast, broadcasting, gathering
from replay.budget_scenarios import budgets, shared_budgets
from replay.stage import SUM, Stage

LONG_TEXT = "The mill stands still where the headrace is dry. " * 60


async def plain(stage: Stage) -> Sequence[str]:
    """One turn; the same message again; another turn; all that a message may have."""
    await stage.line.ask("plain", "[[say:Good day.]] Hello", id="m1")
    await stage.line.say("plain", "Hello again, under the same id", id="m1")
    await stage.line.ask("plain", "What is a headrace?", id="m2", user_id="ann", tenant="mill", metadata={"a": "1"})
    await stage.line.ask("plain", "Draft a line.", id="m3", agent="writer")
    await stage.line.ask("plain", "Are you there?", id="m4", agent="nobody")
    return ["plain"]


async def tool(stage: Stage) -> Sequence[str]:
    """A tool; one that fails; one that there is not."""
    await stage.line.ask("tool", f"{SUM} Work it out.", id="m1")
    await stage.line.ask("tool", '[[tool:calculator {"expression": "1/0"}]] And this?', id="m2")
    await stage.line.ask("tool", '[[tool:no_such_tool {"a": 1}]] And this?', id="m3")
    return ["tool"]


async def parallel_tools(stage: Stage) -> Sequence[str]:
    """Several tools at once, twice in one session."""
    calls = " ".join(f'[[tool:calculator {{"expression": "{n}*7"}}]]' for n in range(5))
    await stage.line.ask("parallel", f"{calls} [[tool:current_time {{}}]] All of them.", id="m1")
    await stage.line.ask("parallel", "[[tools:calculator,current_time,no_such_tool]] Once more.", id="m2")
    return ["parallel"]


async def model_faults(stage: Stage) -> Sequence[str]:
    """Faults that pass and that last, and every way to stop."""
    faults = (
        "[[fault:529 times=1]]",
        "[[fault:529]]",
        "[[fault:400]]",
        "[[fault:drop times=1]]",
        "[[fault:spend-limit]]",
    )
    stops = ("max_tokens", "stop_sequence", "refusal", "model_context_window_exceeded")
    orders = [*faults, *(f"[[stop:{reason}]]" for reason in stops), f"{SUM} [[fault:500 step=2]]"]
    for number, order in enumerate(orders):
        await stage.line.ask("faults", f"{order} Tell me something.", id=f"m{number}")
    await stage.line.ask("faults", "And now?", id="last")
    return ["faults"]


async def limits(stage: Stage) -> Sequence[str]:
    """Every limit is breached, and the session goes on."""
    line = stage.line
    await line.ask("limits", "[[tool-loop:calculator]]", id="calls", agent="few-calls")
    await line.ask("limits", f"{SUM} {SUM}", id="tools", agent="few-tools")
    await line.ask("limits", SUM, id="tokens", agent="thrifty")
    await line.ask("limits", "[[latency:5]] Take your time.", id="seconds", agent="hurried")
    await line.say("limits", "[[latency:2]] First.", id="q1", agent="narrow")
    for number in (2, 3, 4):
        await line.say("limits", f"Number {number}.", id=f"q{number}")
    for number in (1, 2, 3, 4):
        await stage.end(f"q{number}")
    await line.ask("limits", "x" * 3_000, id="transcript", agent="forgetful")
    await line.ask("limits", "Still there?", id="after", agent="assistant")
    return ["limits"]


async def cancel(stage: Stage) -> Sequence[str]:
    """The running turn, a waiting one, and nothing; the late outcome comes when nobody waits for it."""
    line = stage.line
    await line.say("cancel", "[[latency:2]] Long.", id="m1")
    await line.say("cancel", "Waiting.", id="m2")
    await line.say("cancel", "Waiting too.", id="m3")
    await line.event("cancel", "turn_started", message_id="m1")
    await stage.fact("cancel", "message_accepted")
    await line.command("cancel_turn", "cancel", message_id="m2", reason="not needed", by="ann")
    await stage.end("m2")
    await line.command("cancel_turn", "cancel", id="c1")
    await stage.end("m1")
    await stage.end("m3")
    await line.command("cancel_turn", "cancel", message_id="m9")
    await stage.refused("cancel")
    await line.say("cancel", f"{SUM} [[latency:1]]", id="m4")
    await line.event("cancel", "tool_called")
    await line.command("cancel_turn", "cancel")
    await stage.end("m4")
    await line.ask("cancel", "And now?", id="m5")
    return ["cancel"]


async def approval(stage: Stage) -> Sequence[str]:
    """Approved, denied, both in one round, decided twice."""
    line = stage.line
    await line.say("approval", SUM, id="m1", agent="careful")
    call = (await line.event("approval", "approval_requested", message_id="m1"))["call_id"]
    await line.command("approval_decision", "approval", call_id=call, decision="approve", by="ann")
    await stage.end("m1")
    await line.command("approval_decision", "approval", call_id=call, decision="approve")
    await stage.refused("approval")
    await line.say("approval", f"{SUM} [[tool:current_time {{}}]] {SUM}", id="m2")
    await line.event("approval", "approval_requested", call_id="approval/2/4")
    await asyncio.sleep(1)
    await line.command("approval_decision", "approval", call_id="approval/2/2", decision="deny", reason="no", by="bob")
    await line.command("approval_decision", "approval", call_id="approval/2/4", decision="approve")
    await stage.end("m2")
    await line.say("approval", SUM, id="m3")
    await line.event("approval", "approval_requested", message_id="m3")
    await line.command("cancel_turn", "approval", by="ann")
    await stage.end("m3")
    return ["approval"]


async def approval_rules(stage: Stage) -> Sequence[str]:
    """Two approve, of whom one changes the arguments; nobody decides in time; a call that need not wait."""
    line = stage.line
    await line.say("rules", SUM, id="m1", agent="four-eyes")
    call = (await line.event("rules", "approval_requested", message_id="m1"))["call_id"]
    for by, more in (("mallory", {}), ("ann", {}), ("bob", {"input": {"expression": "6*7"}}), ("ann", {})):
        await line.command("approval_decision", "rules", call_id=call, decision="approve", by=by, **more)
    await stage.end("m1")
    await line.say("rules", SUM, id="m2", agent="impatient")
    await stage.end("m2")
    await line.ask("rules", '[[tool:calculator {"expression": "1+1"}]]', id="m3", agent="impatient")
    return ["rules"]


async def asks(stage: Stage) -> Sequence[str]:
    """Two at once and a tool beside them; one that fails; one that takes too long; cancelled amid a question."""
    line = stage.line
    ask = '[[tool:ask_writer {"message": "%s"}]]'
    await line.ask("asks", f"{ask % 'A line.'} {ask % 'Another.'} {SUM} All of them.", id="m1", agent="lead")
    await line.ask("asks", f"{ask % '[[fault:400]]'} And this?", id="m2")
    await line.ask("asks", f"{ask % '[[latency:3]] Slowly.'} And this?", id="m3")
    await line.say("asks", f"{ask % '[[latency:3]] Slowly.'} And this?", id="m4")
    await line.event("asks", "tool_called", message_id="m4")
    await line.command("cancel_turn", "asks", by="ann")
    await stage.end("m4")
    await asyncio.sleep(1)
    return ["asks", "asks~1.2", "asks~3.2", "asks~4.2"]


async def chain(stage: Stage) -> Sequence[str]:
    """To its end; stopped by its gate; a step that fails."""
    await stage.line.ask("chain", "[[say:This is the END.]] Write.", id="m1", agent="chain")
    await stage.line.ask("chain", "[[say:This is not it.]] Write.", id="m2")
    await stage.line.ask("chain", "[[fault:400]] Write.", id="m3")
    return ["chain", "chain~1.2"]


async def vote(stage: Stage) -> Sequence[str]:
    """All agree; cancelled amid the votes; all fail."""
    await stage.line.ask("vote", "[[say:Yes.]] Is it so?", id="m1", agent="vote")
    await stage.line.say("vote", "[[latency:3]] Is it so?", id="m2")
    await stage.line.event("vote", "tool_called", message_id="m2")
    await stage.line.command("cancel_turn", "vote", by="ann")
    await stage.end("m2")
    await stage.line.ask("vote", "[[fault:400]] Is it so?", id="m3")
    return ["vote"]


async def handoff(stage: Stage) -> Sequence[str]:
    """Passed on amid a turn; the next message is the other agent's."""
    order = '[[tool:hand_off_to_writer {"message": "it is a poem"}]]'
    await stage.line.ask("handoff", f"{order} Write a poem.", id="m1", agent="lead")
    await stage.line.ask("handoff", "And another one.", id="m2")
    return ["handoff"]


async def handoff_calls(stage: Stage) -> Sequence[str]:
    """Passed on while one of its tools runs and another waits for people: both stay its own."""
    line = stage.line
    order = '[[tool:hand_off_to_writer {"message": "it is a poem"}]] [[tool:current_time {"timezone": "UTC"}]]'
    await line.say("passed", f"{order} {SUM} Write a poem.", id="m1", agent="guide")
    call = (await line.event("passed", "approval_requested", message_id="m1"))["call_id"]
    await line.command("approval_decision", "passed", call_id=call, decision="approve", by="ann")
    await stage.end("m1")
    return ["passed"]


async def queue(stage: Stage) -> Sequence[str]:
    """Messages wait for the running turn, in their order."""
    await stage.line.say("queue", "[[latency:1]] First.", id="m0")
    for number in range(1, 8):
        await stage.line.say("queue", f"Number {number}.", id=f"m{number}")
    for number in range(8):
        await stage.end(f"m{number}")
    return ["queue"]


async def end_session(stage: Stage) -> Sequence[str]:
    """Ended in the middle of a turn, with one that waits; later messages are turned away."""
    line = stage.line
    await line.ask("ended", "Remember this.", id="m0")
    await line.say("ended", "[[latency:2]] Long.", id="m1")
    await line.event("ended", "turn_started", message_id="m1")
    await line.say("ended", "Waiting.", id="m2")
    await line.command("end_session", "ended", reason="enough")
    await stage.end("m2")
    await line.command("end_session", "ended", reason="enough")
    await line.ask("ended", "Still there?", id="m3")
    await line.say("ended", "The first one again", id="m0")
    await asyncio.sleep(3)
    return ["ended"]


async def expiry(stage: Stage) -> Sequence[str]:
    """Forgotten after its retention time, and born again: turns and `seq` begin anew."""
    await stage.line.ask("expiry", "Remember this.", id="m1")
    await stage.fact("expiry", "session_expired")
    await asyncio.sleep(0.5)
    await stage.line.say("expiry", "What did I say?", id="m2")
    await stage.end("m2")
    await stage.line.say("expiry", "The id of the first life", id="m1")
    await stage.end("m1", count=2)
    return ["expiry"]


async def quarantine(stage: Stage) -> Sequence[str]:
    """A fact that the core cannot handle: a turn that would end after the last day of the calendar."""
    line = stage.line
    await line.ask("quarantine", "Hello.", id="m1")
    forged = {"session_id": "quarantine", "content": [{"type": "text", "text": "x"}], "at": "9999-12-31T23:59:59Z"}
    value = orjson.dumps({"type": "message_accepted", "message_id": "m2", **forged})
    await line.put("session-log", value, key=b"quarantine")
    await stage.end("m2")
    await line.put("session-log", b'{"type": "no_fact"}', key=b"quarantine")
    await line.put("session-log", b"\xff no JSON", key=b"quarantine")
    await line.ask("quarantine", "Still there?", id="m3")
    return ["quarantine"]


async def release(stage: Stage) -> Sequence[str]:
    """A quarantine is lifted, comes back with the same fact, and is lifted again; what is no quarantine is not."""
    line = stage.line

    async def uncover_the_bug(message_id: str) -> None:
        forged = {"session_id": "release", "content": [{"type": "text", "text": "x"}], "at": "9999-12-31T23:59:59Z"}
        value = orjson.dumps({"type": "message_accepted", "message_id": message_id, **forged})
        await line.put("session-log", value, key=b"release")
        await stage.end(message_id)

    await line.ask("release", "Hello.", id="m1")
    await uncover_the_bug("m2")
    await line.ask("release", "Still there?", id="m3")
    await line.command("release_session", "release", id="r1", by="ann", reason="corrected")
    await line.ask("release", f"{SUM} And now?", id="m4")
    await line.command("release_session", "release", id="r1")
    await line.command("release_session", "release", id="r2")
    await uncover_the_bug("m5")
    await line.ask("release", "Again?", id="m6")
    await line.command("release_session", "release", id="r3")
    await line.ask("release", "Still there?", id="m3-again")
    await line.ask("release", "Still there?", id="m3-again")
    return ["release"]


async def crash(stage: Stage) -> Sequence[str]:
    """A worker that is killed in the middle of a tool that must not run twice, and in the middle of an answer."""
    line, worker = stage.line, stage.worker
    await line.say("crash", '[[tool:post_note {"text": "once"}]]', id="m1", agent="clerk")
    await stage.fact("crash", "tool_started")
    await worker.kill()
    await worker.start()
    await stage.end("m1")
    await line.say("crash", "[[latency:3]] Tell me.", id="m2")
    await line.event("crash", "turn_started", message_id="m2")
    await asyncio.sleep(1)
    await worker.kill()
    await worker.start()
    await stage.end("m2")
    await line.ask("crash", '[[tool:post_note {"text": "again"}]]', id="m3")
    return ["crash"]


async def huge(stage: Stage) -> Sequence[str]:
    """A conversation of many turns with long messages."""
    for number in range(30):
        tail = SUM if number % 3 == 0 else "[[say:So it is.]]"
        await stage.line.ask("huge", f"{number}: {LONG_TEXT} {tail}", id=f"m{number}")
    return ["huge"]


async def unicode(stage: Stage) -> Sequence[str]:
    """Text of all kinds, U+0000 and line separators included, and an image."""
    texts = (
        "[[say:Grüße, Ελλάδα, Привет, 你好, こんにちは, 안녕]] ¿Qué tal?",
        "[[say:שלום עולם، مرحبا]] \u202eright to left\u202c",
        "[[say:👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 \u200b\ufeff]] zero width",
        "[[say:a\u2028b\u2029c\u0085d\tend]] lines\nand\r\nbreaks \u0000 \u001b[31m",
        '[[tool:calculator {"expression": "\uff11+\uff12"}]] \U0001f600',
    )
    for number, text in enumerate(texts):
        await stage.line.ask("unicode", text, id=f"m{number}", metadata={"\u03c3": "ß"}, user_id="Zoë")
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": pixel}}
    await stage.line.ask("unicode", id="image", content=[{"type": "text", "text": "What is it?"}, image])
    return ["unicode"]


SCENARIOS: dict[str, Callable[[Stage], Awaitable[Sequence[str]]]] = {
    "plain": plain,
    "tool": tool,
    "parallel-tools": parallel_tools,
    "model-faults": model_faults,
    "limits": limits,
    "cancel": cancel,
    "approval": approval,
    "approval-rules": approval_rules,
    "asks": asks,
    "handoff": handoff,
    "handoff-calls": handoff_calls,
    "chain": chain,
    "vote": vote,
    "budgets": budgets,
    "shared-budgets": shared_budgets,
    "queue": queue,
    "end-session": end_session,
    "expiry": expiry,
    "quarantine": quarantine,
    "release": release,
    "crash": crash,
    "broadcast": broadcast,
    "gathering": gathering,
    "broadcasting": broadcasting,
    "huge": huge,
    "unicode": unicode,
}
