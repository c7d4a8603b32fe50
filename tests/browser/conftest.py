"""A stack and a browser for all tests of the console. Without Chromium they are skipped, unless that is forbidden."""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from browser.stack import Stack
from browser.visit import Visit
from kafka_fixture import Broker
from playwright.sync_api import Browser, expect, sync_playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
NO_BROWSER = "no Chromium was found: apt install chromium; HEADRACE_TEST_BROWSER=required makes this a failure"

Visiting = Callable[..., Visit]
SHOWN_MS = 30_000
expect.set_options(timeout=SHOWN_MS)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Debian's Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None and os.environ.get("HEADRACE_TEST_BROWSER") == "required":
        pytest.fail(NO_BROWSER, pytrace=False)
    if program is None:
        pytest.skip(NO_BROWSER)
    return program


@pytest.fixture(scope="session")
def stack(chromium: str, embedded_kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack for all tests: each has sessions of its own. It is not started where there is no browser."""
    del chromium
    stack = Stack(tmp_path_factory.mktemp("console"), embedded_kafka.bootstrap)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def browser(chromium: str, stack: Stack) -> Iterator[Browser]:
    """Of one module, and started after the servers: while it is open, asyncio runs nothing else in this thread."""
    del stack
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def closed_url(stack: Stack) -> str:
    """A gateway on the same stores that wants keys."""
    return stack.start_closed_gateway()


@pytest.fixture
def visiting(browser: Browser, stack: Stack) -> Iterator[Visiting]:
    """Opens visits; whatever went wrong in one of them fails the test."""
    visits: list[Visit] = []

    def visit(url: str | None = None, **options: Any) -> Visit:
        visits.append(Visit(browser, stack, url or stack.url, **options))
        return visits[-1]

    yield visit
    for one in visits:
        one.close()
    wrong = [line for one in visits for line in one.wrong]
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def visit(visiting: Visiting) -> Visit:
    """One visit of the gateway that is open to this machine."""
    return visiting()
