"""What operators look at: the pipeline, a session's timeline, dead letters and their replay, the audit log, usage."""

import asyncio
import json
import re
from concurrent.futures import ThreadPoolExecutor

from aiokafka import AIOKafkaProducer
from browser.stack import PROJECTED_S, Stack, answer, items, until, wait_for_timeline
from browser.visit import Visit
from playwright.sync_api import expect

TIMELINE = (
    "message_accepted",
    "turn_started",
    "model_completed",
    "tool_called",
    "tool_completed",
    "tool_returned",
    "model_completed",
    "turn_completed",
)


def publish(stack: Stack, value: bytes) -> None:
    """Write a record on `user-messages`, as any Kafka client can."""

    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=stack.brokers) as producer:
            await producer.send_and_wait(f"{stack.topic_prefix}user-messages", value)

    # The browser's loop runs in this thread.
    with ThreadPoolExecutor(1) as threads:
        threads.submit(asyncio.run, send()).result()


def ask(stack: Stack, session_id: str, text: str) -> None:
    """Send a message, and wait for its end."""
    answer(f"{stack.url}/v1/sessions/{session_id}/messages?wait=60", {"text": text, "user_id": "ann"})


def wait_for(stack: Stack, path: str, count: int = 1) -> None:
    """Return when the gateway has so many of what a page lists: the page reads them once."""
    until(lambda: len(items(stack.url + path)) >= count, PROJECTED_S, f"{count} of {path}")


def test_the_pipeline_is_drawn_as_it_is(visit: Visit) -> None:
    """Every processor and every topic is in the picture, and numbers change while something flows."""
    ask(visit.stack, "drawn-1", "[[say:yes]] a")
    page = visit.open("pipeline")
    picture = page.get_by_role("img", name="The flow of records")
    nodes = answer(f"{visit.url}/v1/pipeline")
    for name in [node["name"] for node in nodes["nodes"]] + [topic["name"] for topic in nodes["topics"]]:
        expect(picture.get_by_text(name, exact=True)).to_be_visible()
    row = page.get_by_role("region", name="Topics").get_by_role("row", name=re.compile("^session-log"))
    expect(row).to_be_visible()
    before = row.inner_text()
    ask(visit.stack, "drawn-2", "[[say:yes]] a")
    expect(row).not_to_have_text(before)


def test_a_session_s_timeline_says_what_took_how_long(visit: Visit) -> None:
    """Each fact and event is there with its time, and opens to the record."""
    ask(visit.stack, "timeline-1", "What is 6 * 7?")
    wait_for_timeline(visit.stack, "timeline-1", *TIMELINE)
    page = visit.open("sessions/timeline-1")
    turn = page.get_by_role("region", name="Turn 1")
    expect(turn).to_contain_text("completed")
    expect(turn.locator(".type")).to_have_text([re.compile(said.replace("_", " ")) for said in TIMELINE])
    expect(turn.locator(".figure").filter(has_text="tok")).to_have_count(2)
    turn.get_by_text("tool returned").click()
    expect(turn.get_by_role("group", name="tool returned")).to_contain_text('"content": "42"')
    page.get_by_role("link", name="Open the conversation").click()
    expect(visit.last_turn("completed")).to_contain_text("What is 6 * 7?")


def test_a_dead_letter_is_read_and_sent_again(visit: Visit) -> None:
    """What nobody can read comes back as a new dead letter; the page says where it went, and asks before it does."""
    letters = "/v1/dead-letters?cause=not_json"
    count = len(items(visit.stack.url + letters)) + 1
    publish(visit.stack, b"<order>no JSON</order>")
    wait_for(visit.stack, letters, count)
    page = visit.open("dead-letters?cause=not_json")
    letter = page.get_by_role("link", name=re.compile("no JSON"))
    expect(letter).to_have_count(count)
    letter.first.click()
    expect(page.get_by_role("group", name="Value")).to_have_text("<order>no JSON</order>")
    page.get_by_role("button", name="Send again…").click()
    page.get_by_role("button", name="Leave it").click()
    page.get_by_role("button", name="Send again…").click()
    page.get_by_role("dialog").get_by_role("button", name="Send again").click()
    expect(page.get_by_role("status").filter(has_text="Sent again")).to_contain_text("offset")
    visit.open("dead-letters?cause=not_json")
    wait_for(visit.stack, letters, count + 1)
    page.get_by_role("button", name="Refresh").click()
    expect(letter).to_have_count(count + 1)


def test_a_dead_letter_is_corrected_and_answered(visit: Visit) -> None:
    """What would be refused again is not sent, and the page says why; what is mended is answered."""
    letters = "/v1/dead-letters?cause=not_valid"
    count = len(items(visit.stack.url + letters)) + 1
    publish(visit.stack, json.dumps({"session_id": "mended-1", "txt": "[[say:Mended.]] a"}).encode())
    wait_for(visit.stack, letters, count)
    page = visit.open("dead-letters?cause=not_valid")
    page.get_by_role("link", name=re.compile("not valid")).first.click()
    page.get_by_role("button", name="Send again…").click()
    dialog = page.get_by_role("dialog")
    value = dialog.get_by_role("textbox", name="Value")
    value.fill('{"session_id": "mended-1", "text": ""}')
    visit.may_fail = True
    dialog.get_by_role("button", name="Send again").click()
    expect(dialog.get_by_role("alert")).to_contain_text("would be refused")
    value.fill('{"session_id": "mended-1", "text": "[[say:Mended.]] a"}')
    dialog.get_by_role("button", name="Send again").click()
    expect(page.get_by_role("status").filter(has_text="Sent again")).to_be_visible()
    visit.open("chat/mended-1")
    expect(visit.last_turn("completed")).to_contain_text("Mended.")


def test_the_audit_log_is_searched(visit: Visit) -> None:
    """A filter is in the address; an act opens to what else there is to say."""
    ask(visit.stack, "audited-1", "[[say:yes]] a")
    wait_for(visit.stack, "/v1/audit?session_id=audited-1&type=command_sent")
    page = visit.open("audit")
    page.get_by_role("textbox", name="Session").fill("audited-1")
    page.get_by_role("textbox", name="Session").press("Enter")
    expect(page).to_have_url(re.compile("session_id=audited-1"))
    page.get_by_role("combobox", name="Act").select_option("command_sent")
    expect(page).to_have_url(re.compile("session_id=audited-1"))
    acts = page.get_by_label("Audit log").locator("summary")
    expect(acts).to_have_count(1)
    acts.click()
    expect(page.get_by_role("group", name="Details")).to_contain_text("command")
    page.get_by_role("button", name="Clear").click()
    expect(page).to_have_url(re.compile("#/audit$"))


def test_usage_is_summed_up(visit: Visit) -> None:
    """Today's calls are in the figures, in both charts and in the table."""
    ask(visit.stack, "used-1", "[[say:yes]] a")
    usage = f"{visit.url}/v1/usage"
    until(lambda: any(item["agent"] == "assistant" for item in items(usage)), PROJECTED_S, "usage of the assistant")
    page = visit.open("usage")
    row = page.get_by_role("region", name="Usage by agent").get_by_role("row", name=re.compile("^assistant"))
    expect(row).to_contain_text("$")
    expect(page.locator(".chart canvas")).to_have_count(3)
    page.get_by_role("combobox", name="By").select_option("model")
    expect(page.get_by_role("region", name="Usage by model")).to_contain_text("claude-sonnet-5-5")
    assert page.get_by_role("table", name="Cost per day").get_by_role("row").count() == 2


def test_a_filter_that_the_gateway_refuses_says_what_to_do(visit: Visit) -> None:
    """The problem's own words are shown."""
    visit.may_fail = True
    page = visit.open("audit?ip=nowhere")
    expect(page.get_by_role("alert")).to_contain_text("an IPv4 or IPv6 address")
