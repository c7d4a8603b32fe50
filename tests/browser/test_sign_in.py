"""A gateway that wants keys: who gets in, what they see, and what happens when a key is taken away."""

import json
import re
from typing import Any

import pytest
from browser.conftest import Visiting
from browser.stack import Stack
from browser.visit import Visit
from playwright.sync_api import expect


def create_key(stack: Stack, *options: str) -> Any:
    return json.loads(stack.command("keys", "create", "ann", "--json", *options))


@pytest.fixture
def visit(visiting: Visiting, closed_url: str) -> Visit:
    """A visit of the gateway that wants a key, of whoever has none yet."""
    visit = visiting(closed_url)
    visit.may_fail = True
    return visit


def sign_in(visit: Visit, key: str) -> None:
    visit.page.get_by_label("Key").fill(key)
    visit.page.get_by_role("button", name="Sign in").click()


def test_a_key_is_asked_for_and_stays_in_the_tab(visit: Visit) -> None:
    """A wrong one is refused with the reason; a right one is good for this tab, and is nowhere to be seen."""
    page = visit.open()
    expect(page.get_by_role("alert")).to_have_count(0)
    sign_in(visit, "hr_0123456789abcdef_" + "0" * 64)
    expect(page.get_by_role("alert")).to_contain_text("No valid key")
    visit.take_picture("sign-in")
    assert visit.accessibility_problems() == []
    key = create_key(visit.stack, "--tenant", "acme")["key"]
    sign_in(visit, key)
    expect(page.get_by_text("Tenant acme")).to_be_visible()
    page.reload()
    visit.say("[[say:welcome]] hi")
    expect(visit.last_turn("completed")).to_contain_text("welcome")
    expect(page).to_have_url(re.compile("#/chat/acme%3Ac-"))
    assert key not in page.content()
    assert key not in page.url
    assert page.evaluate("JSON.stringify(localStorage)").find(key) < 0
    expect(page.get_by_role("navigation").get_by_role("link")).to_have_text(["Chat", "Sessions"])
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Key")).to_be_visible()
    assert page.evaluate("JSON.stringify(sessionStorage)") == "{}"


def test_a_key_that_is_revoked_ends_the_visit(visit: Visit) -> None:
    """Within seconds the page asks for another one, and says why."""
    made = create_key(visit.stack)
    visit.open()
    sign_in(visit, made["key"])
    visit.say("[[say:welcome]] hi")
    visit.last_turn("completed")
    visit.stack.command("keys", "revoke", made["id"])
    expect(visit.page.get_by_label("Key")).to_be_visible()
    # Whichever hears of it first says so: the open stream, or the next request.
    expect(visit.page.get_by_role("alert")).to_contain_text(re.compile("revoked|not any more"))


def test_a_key_sees_what_it_is_good_for(visit: Visit) -> None:
    """The first view is one that the key may see; another one says what is missing."""
    visit.open("")
    sign_in(visit, create_key(visit.stack, "--scope", "audit:read")["key"])
    expect(visit.page.get_by_role("navigation").get_by_role("link")).to_have_text(["Audit"])
    visit.open("usage")
    expect(visit.page.get_by_role("heading", name="Not for this key")).to_be_visible()


def test_another_tenant_s_session_is_refused_in_words(visit: Visit) -> None:
    """Its address shows a problem, and nothing of the session."""
    visit.open()
    sign_in(visit, create_key(visit.stack, "--tenant", "acme")["key"])
    expect(visit.page.get_by_text("Tenant acme")).to_be_visible()
    visit.open("chat/other:c-1")
    expect(visit.page.get_by_role("alert").first).to_contain_text("The session is not the tenant's")
