"""Every view, in both themes and on a phone: nothing that shuts somebody out, nothing that sticks out of the page."""

import os
from pathlib import Path

import pytest
from browser.conftest import Visiting
from browser.stack import Stack, answer
from browser.visit import DESKTOP, PHONE, SCREENSHOTS, Visit
from playwright.sync_api import expect

SESSION = "looked-at"
VIEWS = {
    "new": "chat?new=1",
    "chat": f"chat/{SESSION}",
    "list": "chat",
    "pipeline": "pipeline",
    "sessions": "sessions",
    "timeline": f"sessions/{SESSION}",
    "dead-letters": "dead-letters",
    "audit": "audit",
    "usage": "usage",
}
LOOKS = [(DESKTOP, "light"), (PHONE, "dark")]
if SCREENSHOTS:
    LOOKS += [(DESKTOP, "dark"), (PHONE, "light")]
PICTURE = os.environ.get("HEADRACE_TEST_PICTURE")
"""Where the picture in the README is written, if anywhere."""
MAX_PICTURE_BYTES = 200_000
OTHERS = ("Write a short note for our release", "What does 12 * 1,499 come to?", "How do I name a branch well?")


@pytest.fixture(scope="module")
def seen(stack: Stack) -> Stack:
    """A stack in which something happened."""
    for text in ("What is 17 * 4,250, and what time is it in Tokyo?", "How do I make a slow meeting shorter?"):
        answer(
            f"{stack.url}/v1/sessions/{SESSION}/messages?wait=30", {"text": text, "user_id": "anyone on this machine"}
        )
    return stack


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_every_view_is_for_everybody(visiting: Visiting, seen: Stack, size: tuple[int, int], scheme: str) -> None:
    """axe-core finds nothing serious, and nothing is wider than the screen."""
    visit = visiting(seen.url, size=size, color_scheme=scheme)
    found = {}
    for name, address in VIEWS.items():
        visit.open(address)
        settle(visit)
        visit.take_picture(f"{name}-{'phone' if size == PHONE else 'desktop'}-{scheme}")
        found[name] = visit.accessibility_problems()
        if visit.page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found[name].append("wider than the screen")
    assert {name: problems for name, problems in found.items() if problems} == {}


def settle(visit: Visit) -> None:
    """Wait until what is read is there."""
    expect(visit.page.get_by_role("main")).to_be_visible()
    expect(visit.page.get_by_text("Loading…")).to_have_count(0)
    expect(visit.page.locator("h1:visible, h2:visible").first).to_be_visible()


def test_the_theme_can_be_chosen(visit: Visit) -> None:
    """It stays over a reload; the system's theme is followed until then."""
    visit.page.emulate_media(color_scheme="light")
    page = visit.open("usage")
    ground = "getComputedStyle(document.body).backgroundColor"
    page.get_by_role("button", name="Dark").click()
    dark = page.evaluate(ground)
    page.reload()
    assert page.evaluate(ground) == dark
    page.get_by_role("button", name="As the system").click()
    assert page.evaluate(ground) != dark


def test_the_readme_s_picture(visiting: Visiting, seen: Stack) -> None:
    """A conversation with tool calls beside others; written where it is asked for."""
    for number, text in enumerate(OTHERS):
        message = {"text": text, "user_id": "anyone on this machine"}
        answer(f"{seen.url}/v1/sessions/other-{number}/messages?wait=30", message)
    visit = visiting(seen.url, size=(1360, 850), color_scheme="light")
    visit.open("chat?new=1")
    visit.say("What is 365 * 24, and what time is it in Lisbon?")
    expect(visit.last_turn("completed").locator("details.tool")).to_have_count(2)
    visit.say("How would you spend so many hours well?")
    visit.last_turn("completed")
    expect(visit.page.get_by_label("Conversations").get_by_role("listitem").first).to_contain_text("so many hours")
    if PICTURE:
        visit.page.screenshot(path=PICTURE)
        assert Path(PICTURE).stat().st_size < MAX_PICTURE_BYTES
