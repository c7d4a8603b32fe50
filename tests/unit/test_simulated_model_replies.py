"""What the simulated model answers: plausible, the same each time, and with sensible tool calls."""

import re
from typing import Any

import jsonschema
import orjson
import pytest

from headrace.simulated_model.directives import parse_directives
from headrace.simulated_model.replies import Reply, ToolUse, plan_reply
from headrace.simulated_model.requests import RequestRefusedError, decode_request
from headrace.simulated_model.schema_input import input_from_schema
from headrace.simulated_model.stream import Outgoing, broken_parts, grouped
from headrace.simulated_model.transcript import read_turn
from headrace.simulated_model.usage import InputUsage

Json = dict[str, Any]


def tool(name: str, **properties: Json) -> Json:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"name": name, "input_schema": schema}


TEXT = {"type": "string"}
BUILT_IN = [tool("calculator", expression=TEXT), tool("current_time", timezone=TEXT), tool("http_get", url=TEXT)]


def reply_to(said: str | list[Json], **more: Any) -> Reply:
    messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
    body = {"model": "m", "max_tokens": 1000, "messages": messages, **more}
    request = decode_request(orjson.dumps(body))
    turn = read_turn(request.messages)
    return plan_reply(request, turn, parse_directives(turn.text), "id")


def calls_for(said: str, tools: list[Json], **more: Any) -> list[tuple[str, Json]]:
    return [(use.name, use.input) for use in reply_to(said, tools=tools, **more).tool_uses]


@pytest.mark.parametrize(
    ("said", "calls"),
    [
        ("What is (3+4) * 12.5?", [("calculator", {"expression": "(3+4) * 12.5"})]),
        ("15% of 80, please", [("calculator", {"expression": "80 * 15 / 100"})]),
        ("3 times 4 plus 5", [("calculator", {"expression": "3 * 4 + 5"})]),
        ("How much is 1,200 / 7?", [("calculator", {"expression": "1200 / 7"})]),
        ("2^10", [("calculator", {"expression": "2**10"})]),
        ("17 \N{MULTIPLICATION SIGN} 23", [("calculator", {"expression": "17 * 23"})]),
        ("(that is 2 + 2)", [("calculator", {"expression": "2 + 2"})]),
        ("What happened on 2024-05-06 at 10:30?", []),
        ("I have 3 cats", []),
        ("What time is it in Tokyo?", [("current_time", {"timezone": "Asia/Tokyo"})]),
        ("What time is it?", [("current_time", {"timezone": "UTC"})]),
        ("Is Africa/Lagos awake?", [("current_time", {"timezone": "Africa/Lagos"})]),
        ("Tell me about Paris", []),
        ("Summarize https://example.com/a?b=1-2.", [("http_get", {"url": "https://example.com/a?b=1-2"})]),
        (
            "What is 6*7 and what time is it in Paris and New York? Then read http://example.com/x",
            [
                ("calculator", {"expression": "6*7"}),
                ("current_time", {"timezone": "Europe/Paris"}),
                ("current_time", {"timezone": "America/New_York"}),
                ("http_get", {"url": "http://example.com/x"}),
            ],
        ),
    ],
)
def test_the_tools_asked_for_follow_from_the_text(said: str, calls: list[tuple[str, Json]]) -> None:
    """Sums, times and addresses each find their tool, several at once; dates and small talk find none."""
    assert calls_for(said, BUILT_IN) == calls


def test_an_unknown_tool_is_tried_when_no_other_fits() -> None:
    """A tool of the user's own is asked for, the one named in the text before the first, with a city said."""
    tools = [*BUILT_IN, tool("send_mail", to=TEXT), tool("get_weather", location=TEXT)]
    assert calls_for("How is the weather in Oslo?", tools) == [("get_weather", {"location": "Oslo"})]
    assert calls_for("Go on", tools) == [("send_mail", {"to": "example to"})]
    assert calls_for("1 + 1", tools) == [("calculator", {"expression": "1 + 1"})]


def test_tool_choice_is_obeyed() -> None:
    """None asks for nothing, any and a name force a call, and parallel calls can be switched off."""
    assert calls_for("1 + 1", BUILT_IN, tool_choice={"type": "none"}) == []
    assert calls_for("hi", BUILT_IN, tool_choice={"type": "any"}) == [("calculator", {"expression": "6 * 7"})]
    named = {"type": "tool", "name": "current_time"}
    assert calls_for("1 + 1", BUILT_IN, tool_choice=named) == [("current_time", {"timezone": "UTC"})]
    one = {"type": "auto", "disable_parallel_tool_use": True}
    assert calls_for("1 + 1 and 2 + 2", BUILT_IN, tool_choice=one) == [("calculator", {"expression": "1 + 1"})]
    with pytest.raises(RequestRefusedError, match="not found in provided tools"):
        calls_for("hi", BUILT_IN, tool_choice={"type": "tool", "name": "other"})


SCHEMA: Json = {
    "type": "object",
    "$defs": {"Point": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}},
    "properties": {
        "unit": {"enum": ["celsius", "kelvin"]},
        "count": {"type": "integer", "minimum": 5, "maximum": 10},
        "day": {"type": "string", "format": "date"},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
        "at": {"$ref": "#/$defs/Point"},
        "maybe": {"anyOf": [{"type": "null"}, {"type": "boolean"}]},
        "either": {"type": ["null", "number"]},
        "code": {"type": "string", "minLength": 20, "maxLength": 22},
        "query": {"type": "string"},
        "nothing": {"type": "null"},
        "optional": {"type": "string"},
    },
    "required": ["unit", "count", "day", "tags", "at", "maybe", "either", "code", "query", "nothing"],
}


def test_a_made_up_input_fits_its_schema() -> None:
    """Whatever the schema asks for is given, and no more than is required."""
    made = input_from_schema(SCHEMA, "Find 99 mills")
    jsonschema.validate(made, SCHEMA)
    assert set(made) == set(SCHEMA["required"])
    assert (made["count"], made["query"]) == (10, "Find 99 mills")


def test_a_schema_that_contains_itself_ends() -> None:
    """A recursive schema gives an input of bounded depth."""
    schema: Json = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    assert str(input_from_schema(schema, "x")).count("next") < 20


def test_the_same_request_gets_the_same_answer() -> None:
    """Nothing is drawn by chance, and the answer is about what was asked."""
    first = reply_to("How do I design a reliable pipeline?")
    assert first == reply_to("How do I design a reliable pipeline?")
    assert "reliable pipeline" in first.text
    assert first.text != reply_to("How do I bake good bread?").text
    assert first.stop_reason == "end_turn"


def test_the_conversation_is_remembered() -> None:
    """A name said in an earlier turn is known later."""
    earlier = [{"role": "user", "content": "Hi, my name is Ada."}, {"role": "assistant", "content": "Hello!"}]
    asked = {"role": "user", "content": "What is my name?"}
    assert "Ada" in reply_to([*earlier, asked]).text
    assert "not told" in reply_to([asked]).text


def after_tools(said: str, *results: tuple[str, Json, Any, bool]) -> list[Json]:
    uses = [
        {"type": "tool_use", "id": f"t{i}", "name": name, "input": args} for i, (name, args, _, _) in enumerate(results)
    ]
    returned = [
        {"type": "tool_result", "tool_use_id": f"t{i}", "content": content, "is_error": is_error}
        for i, (_, _, content, is_error) in enumerate(results)
    ]
    return [
        {"role": "user", "content": said},
        {"role": "assistant", "content": uses},
        {"role": "user", "content": returned},
    ]


def test_results_are_quoted_in_the_answer() -> None:
    """One result is a sentence; several are a list, failures among them."""
    assert reply_to(after_tools("6*7", ("calculator", {"expression": "6*7"}, "42", False))).text == "6*7 = 42."
    many = reply_to(
        after_tools(
            "all of it",
            ("calculator", {"expression": "1/0"}, "division by zero", True),
            ("current_time", {"timezone": "America/New_York"}, [{"type": "text", "text": '{"time": "10:30"}'}], False),
            ("http_get", {"url": "http://example.com/"}, "Example\n  Domain", False),
            ("get_weather", {"location": "Oslo"}, '{"sky": "clear", "wind": 3}', False),
            ("void", {}, "", False),
        )
    )
    assert many.text.splitlines() == [
        "Here is what I found:",
        "- I tried calculator with expression 1/0, but it failed: division by zero",
        "- In New York it is now 10:30.",
        "- The page at http://example.com/ says: \u201cExample Domain\u201d",
        "- get_weather with location Oslo returned sky: clear, wind: 3.",
        "- void returned nothing.",
    ]
    assert many.stop_reason == "end_turn"


def test_ordered_calls_come_first_and_then_the_ordered_words() -> None:
    """A script of tools and words: the calls in the first step, the words once they have answered."""
    said = '[[tool:calculator {"expression": "1"}]] [[tool:nope {}]] [[say:Done.]]'
    assert [(use.name, use.input) for use in reply_to(said).tool_uses] == [
        ("calculator", {"expression": "1"}),
        ("nope", {}),
    ]
    final = reply_to(after_tools(said, ("calculator", {}, "1", False)))
    assert (final.text, final.tool_uses) == ("Done.", ())


def test_a_tool_loop_never_ends() -> None:
    """The tool is asked for again after each result."""
    looping = reply_to(after_tools("[[tool-loop:calculator]]", ("calculator", {}, "1", False)), tools=BUILT_IN)
    assert ([use.name for use in looping.tool_uses], looping.stop_reason) == (["calculator"], "tool_use")


@pytest.mark.parametrize("reason", ["max_tokens", "refusal", "pause_turn", "model_context_window_exceeded", "end_turn"])
def test_an_ordered_stop_reason_is_given(reason: str) -> None:
    """Every stop reason can be had, with tools offered or not."""
    assert reply_to(f"1 + 1 [[stop:{reason}]]", tools=BUILT_IN).stop_reason == reason


def test_stop_sequence_names_the_sequence() -> None:
    """An ordered stop sequence is one of the request's own."""
    reply = reply_to("x [[stop:stop_sequence]]", stop_sequences=["END"])
    assert (reply.stop_reason, reply.stop_sequence) == ("stop_sequence", "END")


def test_a_paused_turn_goes_on_when_it_is_sent_back() -> None:
    """The transcript with the paused part at its end gets the rest and a normal end."""
    said = {"role": "user", "content": "x [[stop:pause_turn]]"}
    assert reply_to([said, {"role": "assistant", "content": "Well,"}]).stop_reason == "end_turn"


def test_the_limits_of_the_request_are_kept() -> None:
    """Few tokens cut the answer, and a stop sequence in it ends it there."""
    short = reply_to("[[say:one two three]]", max_tokens=1)
    assert (short.text, short.stop_reason) == ("one ", "max_tokens")
    cut = reply_to("[[say:one two three]]", stop_sequences=[" two"])
    assert (cut.text, cut.stop_reason, cut.stop_sequence) == ("one", "stop_sequence", " two")


REPLIES = {
    "text": Reply("The mill wheel turns. " * 30, (), "end_turn"),
    "tools": Reply("Let me see.", (ToolUse("a", "calc", {"e": "1 + 1" * 9}), ToolUse("b", "now", {})), "tool_use"),
    "nothing": Reply("", (), "refusal"),
    "not ASCII": Reply("L'eau \N{HERB} \N{WATER WAVE} coule\u2028vite", (), "end_turn"),
}


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES.keys())
def test_a_stream_carries_what_the_message_says(reply: Reply) -> None:
    """Put together again, the events of a stream give content, stop reason and usage of the whole message."""
    outgoing = Outgoing(reply, "x", "m", InputUsage(uncached=3, written=2, read=1))
    entries = outgoing.events()
    assert len(entries) <= 20 * (1 + len(reply.tool_uses)) + 1
    assert b"".join(grouped(entries, 3)) == b"".join(entries)
    assert len(grouped(entries, 3)) <= 3
    events = [orjson.loads(data) for data in re.findall(rb"data: (.+)\n\n", b"".join(entries))]
    assert [event["type"] for event in events][:2] == ["message_start", "ping"]
    assert events[-1]["type"] == "message_stop"
    blocks: list[Json] = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    inputs = [""] * len(blocks)
    for event in events:
        if event["type"] == "content_block_delta":
            blocks[event["index"]]["text"] = blocks[event["index"]].get("text", "") + event["delta"].get("text", "")
            inputs[event["index"]] += event["delta"].get("partial_json", "")
    for block, made in zip(blocks, inputs, strict=True):
        if block["type"] == "tool_use":
            del block["text"]
            block["input"] = orjson.loads(made)
    whole = orjson.loads(outgoing.message())
    ending = next(event for event in events if event["type"] == "message_delta")
    assert blocks == whole["content"]
    assert ending["delta"]["stop_reason"] == whole["stop_reason"] == reply.stop_reason
    assert {**ending["usage"], "service_tier": "standard"} == whole["usage"]


@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES.keys())
def test_half_of_a_reply_is_never_a_whole_one(reply: Reply, *, is_stream: bool) -> None:
    """Where a stream fault cuts, the stop reason has not been said yet."""
    parts = broken_parts(Outgoing(reply, "x", "m", InputUsage(uncached=3, written=2, read=1)), is_stream=is_stream)
    head = b"".join(parts[: max(1, len(parts) // 2)])
    assert head
    assert b"message_delta" not in head
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(head)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("A technical question.", "technical"),
        ("Billing, or technical?", "billing"),
        ("What time is it?", "other"),
        ("[[say:Nothing]] technical", "Nothing"),
    ],
)
def test_instructions_may_leave_one_of_some_words(said: str, answer: str) -> None:
    """The first of them that was said, or else the last: agents that classify and judge have an answer of use."""
    system = "Say what it is about. Answer with one of these words only: billing, technical, other."
    assert reply_to(said, system=system).text == answer
