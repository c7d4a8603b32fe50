"""One visit of the console with Chromium, in which nothing may go wrong that a visitor would not see."""

import os
import re
from pathlib import Path
from typing import Any

from browser.stack import Stack
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Request, expect

AXE = Path(__file__).parents[1] / "vendor" / "axe-core" / "axe.min.js"
DESKTOP = (1280, 860)
PHONE = (390, 844)
SCREENSHOTS = os.environ.get("HEADRACE_TEST_SCREENSHOTS")
"""A folder, for whoever wants to look at what the tests saw."""
WATCH_TEXT = """
window.shown = [];
new MutationObserver(() => {
  const text = [...document.querySelectorAll("li.turn:last-of-type [data-text]")].at(-1)?.textContent ?? "";
  if (window.shown.at(-1) !== text) window.shown.push(text);
}).observe(document, { subtree: true, childList: true, characterData: true });
"""
"""Notes each text that the last answer had, however short it was to be seen."""
ACTION_MS = 30_000
FAILED_REQUEST = re.compile(r"^Failed to load resource")


class Visit:
    """A page, and what its console said. `may_fail`: requests that fail are part of the test."""

    def __init__(self, browser: Browser, stack: Stack, url: str, **options: Any) -> None:
        width, height = options.pop("size", DESKTOP)
        self.stack = stack
        self.url = url
        self.may_fail = False
        self.wrong: list[str] = []
        self.context: BrowserContext = browser.new_context(
            viewport={"width": width, "height": height}, locale="en-GB", timezone_id="UTC", **options
        )
        self.context.add_init_script(WATCH_TEXT)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(ACTION_MS)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error in the page: {error}"))
        self.page.on("request", self._see)

    def open(self, view: str = "chat") -> Page:
        self.page.goto(f"{self.url}/#/{view}" if view else f"{self.url}/")
        return self.page

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        if self.may_fail and FAILED_REQUEST.match(message.text):
            return
        self.wrong.append(f"console: {message.text} ({message.location})")

    def _see(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", "data:")):
            self.wrong.append(f"request to another origin: {request.url}")

    def say(self, text: str) -> None:
        self.page.get_by_label("Your message").fill(text)
        self.page.keyboard.press("Enter")

    @property
    def session_id(self) -> str:
        expect(self.page).to_have_url(re.compile(r"#/chat/c-[0-9a-f]+$"))
        return self.page.url.rpartition("/")[2]

    def last_turn(self, status: str | None = None) -> Locator:
        """The last turn, once it has this status."""
        turn = self.page.locator("li.turn").last
        if status is not None:
            expect(turn).to_have_attribute("data-status", status)
        return turn

    def last_text(self) -> Locator:
        return self.page.locator("li.turn").last.locator("[data-text]").last

    def shown(self) -> list[str]:
        """Every text that the last answer had, in this document."""
        return list(self.page.evaluate("window.shown"))

    def take_picture(self, name: str) -> None:
        if SCREENSHOTS:
            Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")

    def accessibility_problems(self) -> list[str]:
        """What axe-core finds that is serious or worse."""
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        return [
            f"{violation['id']}: {violation['help']}: {node['html'][:200]}"
            for violation in found["violations"]
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
        ]

    def close(self) -> None:
        self.context.close()
