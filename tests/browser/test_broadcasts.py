"""What the console shows of a broadcast, of what was gathered, and of an agent that broadcasts."""

import pytest
from browser.conftest import Visiting
from browser.stack import Stack, wait_for_timeline
from browser.visit import DESKTOP, PHONE
from playwright.sync_api import expect

QUESTION = "What makes a slow meeting shorter?"
CALL = '[[tool:broadcast {"message": "Is the plan sound?", "gather": "all"}]] Ask the others.'


@pytest.fixture(scope="module")
def gathered(stack: Stack) -> str:
    """A broadcast to two agents, of which one replies at once; the session that gathers."""
    stack.command("broadcast", QUESTION, "--to", "assistant", "--to", "clerk", "--gather", "all", "--id", "looked-at")
    return "looked-at:@"


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_a_gathering(visiting: Visiting, stack: Stack, gathered: str, size: tuple[int, int], scheme: str) -> None:
    """Its conversation has the broadcast and each agent's reply; its timeline is one turn that has ended."""
    visit = visiting(stack.url, size=size, color_scheme=scheme)
    looks = f"{'phone' if size == PHONE else 'desktop'}-{scheme}"
    visit.open(f"chat/{gathered}")
    turn = visit.last_turn("completed")
    expect(turn.locator(".said")).to_contain_text(QUESTION)
    expect(turn).to_contain_text("As many replied as were asked for.")
    replies = turn.locator("details.tool")
    expect(replies).to_have_count(2)
    reply = replies.filter(has_text="assistant")
    reply.locator("summary").click()
    expect(reply.get_by_role("link", name="Its conversation")).to_have_attribute("href", "#/chat/looked-at%3Aassistant")
    visit.take_picture(f"broadcast-chat-{looks}")
    assert visit.accessibility_problems() == []
    wait_for_timeline(stack, gathered, "broadcast_completed")
    visit.open(f"sessions/{gathered}")
    card = visit.page.locator(".turn-card")
    expect(card).to_have_count(1)
    expect(card.locator("header")).to_contain_text("completed")
    expect(card).to_contain_text("2 of 2 replied")
    visit.take_picture(f"broadcast-timeline-{looks}")
    assert visit.accessibility_problems() == []
    assert not visit.page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_an_agent_that_broadcasts(visiting: Visiting, stack: Stack) -> None:
    """The call leads to what the agents replied."""
    visit = visiting(stack.url)
    visit.open("chat?new=1")
    visit.page.get_by_label("Agent").select_option("chair")
    visit.say(CALL)
    turn = visit.last_turn("completed")
    call = turn.locator("details.tool")
    call.locator("summary").click()
    expect(call.get_by_label("Result")).to_contain_text("2 of 2 agents replied")
    visit.take_picture("broadcast-call-desktop-light")
    link = call.get_by_role("link", name="What the agents replied")
    asked = str(link.get_attribute("href")).rpartition("/")[2]
    wait_for_timeline(stack, asked, "broadcast_completed")
    link.click()
    expect(visit.page.locator(".turn-card")).to_contain_text("2 of 2 replied")
