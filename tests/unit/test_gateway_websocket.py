"""The WebSocket's frames: what the document says of them is what they are, and every event is told."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct, structs
from projection_records import conversation, deltas

from gateway.feeds import Entry, Position
from gateway.feeds.items import Item
from gateway.problems import Problem
from gateway.websocket import CLOSE_CODES, MAX_COMMANDS_WAITING, MAX_FOLLOWED, OTHER_CLOSE_CODE, Allowance
from gateway.websocket_frames import FromClient, FromServer
from gateway.websocket_telling import frames_of
from schemas.codec import encode
from schemas.events import AgentDelta, AgentEvent

PAGE = (Path(__file__).parents[2] / "docs" / "websocket.md").read_text(encoding="utf-8")
CLIENT: tuple[type[Struct], ...] = get_args(FromClient)
SERVER: tuple[type[Struct], ...] = get_args(FromServer)


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize(
    ("title", "frames"), [("What you send", CLIENT), ("What you are told", SERVER)], ids=["client", "server"]
)
def test_the_page_has_every_frame_and_field(title: str, frames: tuple[type[Struct], ...]) -> None:
    """A row for each type, with its fields in the second column; optional ones in brackets."""
    rows = {
        cells[0].strip(" `"): cells[1]
        for line in section(title).splitlines()
        if line.startswith("| `") and not line.startswith("| `type`")
        for cells in [line.strip("|").split("|")]
    }
    assert set(rows) == {str(frame.__struct_config__.tag) for frame in frames}
    for frame in frames:
        cell = rows[str(frame.__struct_config__.tag)]
        assert set(re.findall(r"`(\w+)`", cell)) == {field.encode_name for field in structs.fields(frame)}
        optional = {field.encode_name for field in structs.fields(frame) if not field.required}
        # Either of the two is needed.
        assert set(re.findall(r"\[`(\w+)`\]", cell)) == optional - (
            {"text", "content"} if cell.count(" or ") else set()
        )


def test_the_examples_are_frames() -> None:
    """Each decodes as a frame of one side, and says nothing that the frame has not."""
    examples = [json.loads(text) for text in re.findall(r"```json\n(.*?)\n```", PAGE, re.DOTALL)]
    assert {example["type"] for example in examples} >= {"authenticate", "ready", "follow", "send", "chat", "status"}
    for example in examples:
        frames: Any = FromServer if example["type"] in {str(f.__struct_config__.tag) for f in SERVER} else FromClient
        frame = msgspec.convert(example, frames)
        assert {
            name: value for name, value in json.loads(msgspec.json.encode(frame)).items() if name in example
        } == example


def test_the_page_has_the_codes_and_limits() -> None:
    """Numbers of the page are those of the code."""
    page = section("Staying, and being let go")
    for code in (*CLOSE_CODES.values(), OTHER_CLOSE_CODE):
        assert f"| {code} |" in page
    assert f"the {MAX_FOLLOWED + 1}st session" in page
    assert f"the {MAX_COMMANDS_WAITING + 1}st command" in page


def entry(record: AgentEvent | AgentDelta, position: Position) -> Entry:
    return Entry(position, Item(position.event, 0, 1, False, 0, encode(record)))


def test_everything_is_told() -> None:
    """A conversation with a tool and a failure, in frames that clients can resume from."""
    history = conversation("s1")
    told = [frame for event in history.seen for frame in frames_of(entry(event, Position(event.seq, 7)))]
    kinds = [(json.loads(msgspec.json.encode(frame))["type"], frame.state) for frame in told]
    assert kinds == [
        ("status", "running"),
        ("tool_use", "called"),
        ("tool_use", "returned"),
        ("chat", "final"),
        ("status", "completed"),
        ("status", "running"),
        ("status", "failed"),
    ]
    assert [frame.resume for frame in told] == ["1-7", "2-7", "3-7", "3-7", "4-7", "5-7", "6-7"]


def test_deltas_are_told() -> None:
    """Each with its place, so that a client can put them together."""
    records = deltas("s1", 1, ("Hel", "lo"), attempt=2)
    told = [
        frame
        for number, record in enumerate(records)
        for frame in frames_of(Entry(Position(1, number + 1), Item(0, number + 1, 1, False, 0, encode(record))))
    ]
    plain = [json.loads(msgspec.json.encode(frame)) for frame in told]
    assert [(frame["state"], frame.get("text"), frame["seq"]) for frame in plain] == [
        ("reset", None, 0),
        ("delta", "Hel", 1),
        ("delta", "lo", 2),
    ]
    assert all(frame["attempt"] == 2 and frame["turn_id"] == "s1/1" for frame in plain)


@given(st.lists(st.floats(0, 3), max_size=60), st.floats(1, 10))
def test_frames_are_counted(pauses: list[float], per_s: float) -> None:
    """No more than the rate, and twice that at once."""
    now = [0.0]
    allowance = Allowance(per_s, lambda: now[0])
    taken = 0
    for pause in pauses:
        now[0] += pause
        with suppress(Problem):
            allowance.take()
            taken += 1
    assert taken <= 2 * per_s + now[0] * per_s + 1e-6
