"""The simulated model refuses the transcripts that the real API refuses: this is what proves that ours are valid."""

from typing import Any

import orjson
import pytest

from headrace.simulated_model.requests import RequestRefusedError, decode_request
from headrace.simulated_model.transcript import check_transcript, read_turn

Json = dict[str, Any]


def user(*content: Json | str) -> Json:
    return {"role": "user", "content": content[0] if isinstance(content[0], str) else list(content)}


def assistant(*content: Json | str) -> Json:
    return {"role": "assistant", "content": content[0] if isinstance(content[0], str) else list(content)}


def text(words: str) -> Json:
    return {"type": "text", "text": words}


def use(call: str) -> Json:
    return {"type": "tool_use", "id": call, "name": "calculator", "input": {"expression": "1 + 1"}}


def result(call: str) -> Json:
    return {"type": "tool_result", "tool_use_id": call, "content": "2"}


def body(*messages: Json, **more: Any) -> bytes:
    return orjson.dumps({"model": "claude-haiku-5-5", "max_tokens": 100, "messages": messages, **more})


VALID = {
    "one question": [user("hi")],
    "a conversation": [user("hi"), assistant("hello"), user("and now?")],
    "two user messages in a row, which the API merges": [user("hi"), user("are you there?")],
    "a tool call and its result": [user("1+1"), assistant(use("a")), user(result("a"))],
    "two parallel calls, answered in any order": [
        user("x"),
        assistant(use("a"), use("b")),
        user(result("b"), result("a")),
    ],
    "results, then the next question in one message": [user("x"), assistant(use("a")), user(result("a"), text("next"))],
    "an answer to go on with": [user("x"), assistant("It is")],
    "thinking kept in place": [
        user("x"),
        assistant({"type": "thinking", "thinking": "hm", "signature": "s"}, text("y")),
    ],
}

INVALID = {
    "no message": ([], "at least one message"),
    "the assistant first": ([assistant("hi")], "first message must use the user role"),
    "a result is missing": (
        [user("x"), assistant(use("a"), use("b")), user(result("a"))],
        "ids were found without.* b",
    ),
    "no result at all": ([user("x"), assistant(use("a")), user("never mind")], "ids were found without"),
    "a call at the end": ([user("x"), assistant(use("a"))], "ids were found without"),
    "a result in a later message": ([user("x"), assistant(use("a")), assistant("y"), user(result("a"))], "without"),
    "a result without its call": ([user("x"), assistant("y"), user(result("a"))], "unexpected `tool_use_id`"),
    "a result from long ago": (
        [user("x"), assistant(use("a")), user(result("a")), assistant("y"), user(result("a"))],
        "unexpected `tool_use_id`",
    ),
    "a call answered twice": ([user("x"), assistant(use("a")), user(result("a"), result("a"))], "single result"),
    "a text before the results": ([user("x"), assistant(use("a")), user(text("t"), result("a"))], "must come first"),
    "one id for two calls": ([user("x"), assistant(use("a"), use("a")), user(result("a"))], "must be unique"),
    "an id used again later": (
        [user("x"), assistant(use("a")), user(result("a")), assistant(use("a")), user(result("a"))],
        "must be unique",
    ),
    "a call by the user": ([user(use("a"))], "type 'tool_use' cannot be here"),
    "an empty message": ([user("x"), assistant(" "), user("y")], "non-empty"),
    "an empty text block": ([user(text(""))], "non-empty"),
    "no blocks": ([user("x"), {"role": "assistant", "content": []}, user("y")], "non-empty"),
    "a call without an object as input": (
        [user("x"), assistant({**use("a"), "input": "1 + 1"}), user(result("a"))],
        "an object as input",
    ),
}


@pytest.mark.parametrize("messages", VALID.values(), ids=VALID.keys())
def test_a_valid_transcript_passes(messages: list[Json]) -> None:
    """What the real API takes, the simulated one takes."""
    check_transcript(decode_request(body(*messages)).messages)


@pytest.mark.parametrize(("messages", "said"), INVALID.values(), ids=INVALID.keys())
def test_an_invalid_transcript_is_refused(messages: list[Json], said: str) -> None:
    """Each way to break the pairing of calls and results is refused, and the message says where."""
    with pytest.raises(RequestRefusedError, match=said) as refusal:
        check_transcript(decode_request(body(*messages)).messages)
    assert refusal.value.status == 400


@pytest.mark.parametrize("missing", ["model", "max_tokens", "messages"])
def test_a_missing_field_is_named(missing: str) -> None:
    """The three fields that every request needs are asked for by name."""
    request = orjson.loads(body(user("hi")))
    del request[missing]
    with pytest.raises(RequestRefusedError, match=f"^{missing}: Field required$"):
        decode_request(orjson.dumps(request))


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        ([{"name": "a b", "input_schema": {"type": "object"}}], "tools.0.name"),
        ([{"name": "a"}], "tools.0.input_schema"),
        ([{"name": "a", "input_schema": {"type": "object"}}] * 2, "must be unique"),
        ([{"input_schema": {"type": "object"}}], "name: Field required"),
    ],
)
def test_a_bad_tool_is_refused(tools: list[Json], said: str) -> None:
    """Tool definitions that the real API refuses are refused here."""
    with pytest.raises(RequestRefusedError, match=said):
        decode_request(body(user("hi"), tools=tools)).offered_tools()


def test_bytes_that_are_not_json_are_refused() -> None:
    """A body that cannot be read is the caller's mistake, not a server error."""
    with pytest.raises(RequestRefusedError, match="not valid JSON"):
        decode_request(b'{"model": ')


def test_the_turn_is_found_through_its_tool_rounds() -> None:
    """Two rounds of tools into the turn, its question is still the turn's text, and this is the third step."""
    messages = [user("old"), assistant("ok"), user("sum"), assistant(use("a")), user(result("a"))]
    messages += [assistant(use("b")), user(result("b"))]
    turn = read_turn(decode_request(body(*messages)).messages)
    assert (turn.text, turn.step, turn.has_results) == ("sum", 3, True)
    assert [(call.id, outcome.tool_use_id) for call, outcome in turn.exchanges] == [("a", "a"), ("b", "b")]


def test_a_question_after_results_opens_a_new_turn() -> None:
    """When a turn was given up, its results and the next question may share a message: the question counts."""
    messages = [user("old"), assistant(use("a")), user(result("a"), text("new"))]
    turn = read_turn(decode_request(body(*messages)).messages)
    assert (turn.text, turn.step, turn.has_results) == ("new", 1, False)


@pytest.mark.parametrize(
    "note",
    [
        "(This request ended without an answer: rate_limited.)",
        "(The user cancelled this request before it was answered.)",
    ],
)
def test_a_question_that_was_given_up_is_not_asked_again(note: str) -> None:
    """It shares a message with the next question, behind the note that ends it: its orders bind no longer."""
    messages = [user(text("[[fault:429]] old"), text(note), text("new"), text("and newer"))]
    assert read_turn(decode_request(body(*messages)).messages).text == "new\nand newer"
