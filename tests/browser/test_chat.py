"""Talking to an agent in the console: what is shown at each moment, and after whatever interrupts it."""

import json
import re
from itertools import pairwise

import pytest
from browser.stack import until
from browser.visit import Visit
from playwright.sync_api import Route, expect

QUESTION = "How do I make a slow meeting shorter?"
MIDDLE_CHARACTERS = 60
MOMENTS = 4
CONNECTED_AGAIN_MS = 60_000


def say(visit: Visit, order: str) -> str:
    """Ask for an answer that is written by this order, and return when the page shows the middle; the session's id."""
    visit.open("chat?new=1")
    visit.say(f"[[{order}]] {QUESTION}")
    session_id = visit.session_id
    wait_for_the_middle(visit)
    return session_id


def wait_for_the_middle(visit: Visit) -> None:
    expect(visit.last_text()).to_have_text(re.compile(rf".{{{MIDDLE_CHARACTERS},}}"))


def assert_only_grew(shown: list[str], answer: str) -> None:
    """Each text that was shown is a beginning of the answer, and no shorter than the one before."""
    texts = [text for text in shown if text]
    assert texts[-1] == answer
    for before, after in pairwise(texts):
        assert answer.startswith(before)
        assert len(after) > len(before)


def test_an_answer_is_shown_while_it_is_written(visit: Visit) -> None:
    """The text grows piece by piece, and is at the end what the turn ended with."""
    session_id = say(visit, "latency:4")
    visit.last_turn("completed")
    (answer,) = visit.stack.answers(session_id)
    shown = visit.shown()
    assert len(shown) > MOMENTS
    assert_only_grew(shown, answer)
    expect(visit.page.locator(".connection")).to_have_text("Live")
    expect(visit.page.locator("[data-announcer]")).to_contain_text(answer)


def test_a_reload_in_the_middle_of_an_answer_loses_and_repeats_nothing(visit: Visit) -> None:
    """The reloaded page shows what was there before, goes on from there, and ends with the answer."""
    session_id = say(visit, "hold:reload")
    before = visit.shown()
    visit.page.reload()
    wait_for_the_middle(visit)
    expect(visit.page.locator("li.turn")).to_have_count(1)
    assert visit.last_turn().get_attribute("data-status") == "running"
    visit.stack.release("reload")
    visit.last_turn("completed")
    (answer,) = visit.stack.answers(session_id)
    assert answer.startswith(before[-1])
    assert_only_grew(visit.shown(), answer)
    expect(visit.page.locator(".said")).to_contain_text(QUESTION)


def test_a_gateway_that_is_killed_in_the_middle_of_an_answer_is_waited_for(visit: Visit) -> None:
    """The page says that it connects again, and goes on by itself where it was, without a piece twice."""
    session_id = say(visit, "hold:killed")
    visit.may_fail = True
    visit.stack.kill_gateway()
    expect(visit.page.locator(".connection")).to_have_text("Reconnecting…")
    expect(visit.page.locator(".connection")).to_have_text("Live", timeout=CONNECTED_AGAIN_MS)
    visit.stack.release("killed")
    visit.last_turn("completed")
    (answer,) = visit.stack.answers(session_id)
    assert_only_grew(visit.shown(), answer)


def test_a_message_that_was_written_while_the_gateway_was_away_is_sent_once(visit: Visit) -> None:
    """It waits in the tab, also over a reload, and is answered once."""
    visit.open("chat?new=1")
    visit.say("[[say:first]] x")
    session_id = visit.session_id
    visit.last_turn("completed")
    visit.may_fail = True
    visit.page.route("**/v1/sessions/*/messages", lambda route: route.abort())
    with visit.page.expect_event("requestfailed"):
        visit.say("[[say:second]] y")
    visit.page.unroute("**/v1/sessions/*/messages")
    visit.page.reload()
    expect(visit.page.locator("li.turn")).to_have_count(2)
    visit.last_turn("completed")
    assert visit.stack.answers(session_id, 2) == ["first", "second"]


def test_an_answer_is_stopped(visit: Visit) -> None:
    """The button is there while the agent works, and ends the turn."""
    session_id = say(visit, "hold:stopped")
    visit.page.get_by_role("button", name="Stop").click()
    turn = visit.last_turn("cancelled")
    expect(turn).to_contain_text("Stopped by anyone on this machine")
    expect(visit.page.get_by_role("button", name="Stop")).to_have_count(0)
    items = visit.stack.transcript(session_id, lambda items: bool(items) and items[-1]["type"] == "turn_cancelled")
    assert items[-1]["type"] == "turn_cancelled"


def test_tool_calls_are_shown_with_what_they_were_asked_and_what_they_returned(visit: Visit) -> None:
    """A call is a line that opens; after a reload the same is there."""
    visit.open("chat?new=1")
    visit.say("What is 6 * 7?")
    turn = visit.last_turn("completed")
    for _ in range(2):
        call = turn.locator("details.tool")
        expect(call).to_have_count(1)
        call.locator("summary").click()
        expect(call.get_by_label("Input")).to_contain_text("6 * 7")
        expect(call.get_by_label("Result")).to_contain_text("42")
        expect(call.locator(".took")).to_have_text(re.compile(r"^[\d.]+ m?s$"))
        expect(turn.locator("[data-text]")).to_have_count(2)
        before = turn.inner_text()
        visit.page.reload()
        turn = visit.last_turn("completed")
    expect(turn.locator("[data-text]")).to_have_count(2)
    turn.locator("details.tool summary").click()
    assert turn.inner_text() == before


def test_what_was_said_before_a_tool_is_shown_although_it_is_stored_later_than_the_answer(visit: Visit) -> None:
    """Two topics have no order between them: the transcript may have the end of a turn before what led to it."""
    visit.open("chat?new=1")
    visit.say("What is 6 * 7?")
    visit.last_turn("completed")
    reads = 0

    def be_behind(route: Route) -> None:
        nonlocal reads
        reads += 1
        response = route.fetch()
        transcript = response.json()
        if reads == 1:
            transcript["as_of"] = transcript["items"][-1]["at"]
            transcript["items"] = [item for item in transcript["items"] if item.get("is_answer") is not False]
        route.fulfill(response=response, json=transcript)

    visit.page.route("**/transcript*", be_behind)
    visit.page.reload()
    expect(visit.last_turn("completed").locator("[data-text]")).to_have_count(2)
    assert reads > 1


@pytest.mark.parametrize(("button", "result"), [("Approve", "done"), ("Deny", "error")])
def test_a_call_waits_for_approval(visit: Visit, button: str, result: str) -> None:
    """The agent asks; what is decided happens, and the turn goes on."""
    visit.open("chat?new=1")
    visit.page.get_by_label("Agent").select_option("clerk")
    visit.say('[[tool:calculator {"expression": "1 + 1"}]] Please.')
    turn = visit.last_turn("waiting")
    expect(turn.get_by_role("region", name="Approval of calculator")).to_contain_text("1 + 1")
    visit.take_picture(f"approval-{button.lower()}")
    turn.get_by_role("button", name=button).click()
    turn = visit.last_turn("completed")
    call = turn.locator("details.tool")
    expect(call.locator(".pill")).to_have_count(1 if result == "error" else 0)
    expect(turn.get_by_role("button", name=button)).to_have_count(0)


def test_a_failed_turn_says_why_and_what_to_do(visit: Visit) -> None:
    """One that can succeed is asked again with a click; another one is given back to be changed."""
    visit.open("chat?new=1")
    visit.say("[[fault:400]] Will this work?")
    turn = visit.last_turn("failed")
    expect(turn.get_by_role("alert")).to_contain_text("No answer: bad request")
    turn.get_by_role("button", name="Edit the message").click()
    expect(visit.page.get_by_label("Your message")).to_have_value("[[fault:400]] Will this work?")
    visit.say("[[stop:refusal]] And this?")
    expect(visit.last_turn("failed").get_by_role("alert")).to_contain_text("refusal")


def test_messages_are_queued_behind_a_running_turn(visit: Visit) -> None:
    """Both are answered in their order, each once."""
    session_id = say(visit, "hold:first")
    visit.say("[[say:next]] z")
    expect(visit.page.locator("li.turn").nth(1)).to_contain_text("Queued")
    visit.stack.release("first")
    visit.last_turn("completed")
    assert visit.stack.answers(session_id, 2)[1] == "next"
    expect(visit.page.locator("li.turn")).to_have_count(2)


def test_a_conversation_is_found_again_and_a_draft_is_kept(visit: Visit) -> None:
    """The list has it with its title; what was written but not sent is still there."""
    visit.open("chat?new=1")
    visit.say("[[say:fine]] A conversation about mills")
    visit.last_turn("completed")
    session_id = visit.session_id
    visit.page.get_by_label("Your message").fill("half a thought")
    visit.page.get_by_role("link", name="New", exact=True).click()
    expect(visit.page.get_by_label("Your message")).to_have_value("")
    item = visit.page.get_by_label("Conversations").get_by_role("link", name="A conversation about mills")
    item.click()
    assert visit.session_id == session_id
    expect(visit.page.get_by_label("Your message")).to_have_value("half a thought")
    expect(visit.last_turn("completed")).to_contain_text("fine")


def test_a_message_is_sent_without_a_mouse(visit: Visit) -> None:
    """From the top of the page with the Tab key: to the content, to the field, a line break, and off."""
    page = visit.open("chat?new=1")
    expect(page.get_by_label("Your message")).to_be_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    for _ in range(40):
        if page.evaluate("document.activeElement.id") == "message":
            break
        page.keyboard.press("Tab")
    page.keyboard.type("[[say:heard]] one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    expect(visit.last_turn("completed")).to_contain_text("heard")
    expect(page.locator(".said")).to_have_text(re.compile("one\ntwo$"))


def test_what_a_model_writes_is_shown_as_text_and_never_as_markup(visit: Visit) -> None:
    """Lists and code are formatted; a script is a text like any other."""
    hostile = "<img src=x onerror=alert(1)> <script>alert(2)</script> **bold** [x](javascript:alert(3))"
    written = f"# Title\n\n- one\n- two\n\n```python\nprint(1)\n```\n\n{hostile}"
    visit.open("chat?new=1")
    visit.say(f"[[say:{written}]] q")
    turn = visit.last_turn("completed")
    assert visit.stack.answers(visit.session_id) == [written]
    expect(turn.locator("[data-text] li")).to_have_text(["one", "two"])
    expect(turn.locator("[data-text] pre")).to_have_text("print(1)")
    expect(turn.locator("[data-text] strong")).to_have_text("bold")
    expect(turn).to_contain_text("<script>alert(2)</script>")
    assert turn.locator("[data-text] :is(script, img, a)").count() == 0


def test_another_program_s_message_appears_in_an_open_conversation(visit: Visit) -> None:
    """The page follows the session, not only what it sent itself."""
    visit.open("chat?new=1")
    visit.say("[[say:mine]] a")
    visit.last_turn("completed")
    session_id = visit.session_id
    visit.page.evaluate(
        "([path, body]) => fetch(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body })",
        [f"/v1/sessions/{session_id}/messages", json.dumps({"text": "[[say:theirs]] from elsewhere"})],
    )
    expect(visit.page.locator("li.turn")).to_have_count(2)
    expect(visit.last_turn("completed")).to_contain_text("theirs")
    until(lambda: "from elsewhere" in visit.page.locator(".said").last.inner_text(), 60, "the text of the message")
