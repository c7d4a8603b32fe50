"""`regex_extract`: what it finds, and that no pattern makes it slow."""

import time
from typing import Any

import pytest

from agents.tools import Toolbox, ToolContext, ToolError, ToolFault, ToolReturn
from agents.tools.regex_extract import extract, regex_extract_tool

CONTEXT = ToolContext(call_id="s1/1/2", session_id="s1", agent="assistant")


def find(pattern: str, text: str, max_matches: int = 100, *, ignore_case: bool = False) -> list[Any]:
    return extract(text, pattern, max_matches, ignore_case=ignore_case)


def test_matches_groups_and_names() -> None:
    """A text where there are no groups; else an object, with null for a group that took no part."""
    assert find(r"\d+", "a1 b22") == ["1", "22"]
    assert find(r"(?P<key>[^ =]+)=(\d+)?", "größe=3 x=") == [{"key": "größe", "2": "3"}, {"key": "x", "2": None}]


def test_lines_case_and_limit() -> None:
    """`^` and `$` are of each line."""
    assert find("^b$", "a\nb\nb") == ["b", "b"]
    assert find("A", "aA", ignore_case=True) == ["a", "A"]
    assert find("a", "aaaa", 2) == ["a", "a"]


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "a{2000}", "((a{100}){100}){100}", "(?P<a", "*"])
def test_what_re2_does_not_have_is_said(pattern: str) -> None:
    """The model learns which syntax it is."""
    with pytest.raises(ToolError, match="RE2 syntax"):
        find(pattern, "a")


@pytest.mark.parametrize("pattern", ["(a*)*b", "(a+)+$", "(a|a)*b", "(x+x+)+y", "(.*)*=(.*)*"])
def test_no_pattern_is_slow(pattern: str) -> None:
    """Each would take a backtracking engine longer than the universe has been there."""
    began = time.process_time()

    find(pattern, "a" * 100_000 + "!")

    assert time.process_time() - began < 2


def test_matches_that_each_read_the_rest_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linear for one match is quadratic for all of them."""
    monkeypatch.setattr("agents.tools.regex_extract.MAX_S", 0.0)

    with pytest.raises(ToolError, match="took more than 0 s"):
        find("a*b|a", "aa")


def test_long_answers_end() -> None:
    """Some matches are better than none."""
    assert len(find(r"\S+", ("x" * 1_000 + " ") * 150, 1_000)) == 100
    with pytest.raises(ToolError, match="the first match has more than"):
        find("x+", "x" * 400_000)


async def test_the_tool_answers() -> None:
    """From the model's arguments to the result."""
    toolbox = Toolbox([regex_extract_tool()])
    try:
        found = await toolbox.run("regex_extract", {"text": "a1", "pattern": r"\d"}, context=CONTEXT, timeout_s=10)
        wrong = await toolbox.run("regex_extract", {"text": "a1", "pattern": "("}, context=CONTEXT, timeout_s=10)
    finally:
        await toolbox.close()

    assert found == ToolReturn(content='["1"]', attempts=1)
    assert isinstance(wrong, ToolFault)
    assert wrong.attempts == 1
