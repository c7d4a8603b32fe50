"""What the browser looks at: `headrace dev` with its simulated model, and a second gateway that wants keys."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headrace.stack.endpoints import FILE_NAME
from headrace.stack.ports import free_port
from headrace.stack.process import log_tail

ROOT = Path(__file__).parents[2]
READY_S = 180.0
ANSWERED_S = 90.0
PROJECTED_S = 60.0
NOT_FOUND = 404
STOP_S = 40.0
AGENTS = """
[assistant]
description = "Answers questions; calculates, tells the time."
model = "claude-sonnet-5-5"
instructions = "Be brief."
tools = ["calculator", "current_time"]

[chair]
description = "Puts questions to all."
model = "claude-haiku-5-5"
instructions = "Ask all."
broadcasts = ["assistant", "clerk"]

[clerk]
description = "Asks before it calculates."
model = "claude-haiku-5-5"
instructions = "Be careful."
tools = ["calculator"]
approval = ["calculator"]
"""


def until(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not after {timeout_s} s"
        time.sleep(0.05)


def environment(folder: Path) -> dict[str, str]:
    """Ours, without anything that would reach a real model or another stack."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANTHROPIC_", "HEADRACE_"))}
    return {**kept, "HEADRACE_AGENTS": str(folder / "agents.toml"), "PYTHONPATH": str(ROOT)}


def answer(url: str, body: object | None = None, key: str | None = None, method: str | None = None) -> Any:
    """The JSON that a request is answered with."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(
        urllib.request.Request(url, data, headers, method=method), timeout=ANSWERED_S
    ) as response:
        return json.load(response)


def read(url: str) -> dict[str, Any] | None:
    """What the gateway has there, if anything yet."""
    try:
        found: dict[str, Any] = answer(url)
    except urllib.error.HTTPError as error:
        if error.code != NOT_FOUND:
            raise
        return None
    return found


def items(url: str) -> list[dict[str, Any]]:
    """A list of the gateway; of what it does not know yet, an empty one."""
    return list((read(url) or {"items": ()})["items"])


class Stack:
    """A running `headrace dev`, and the gateways that were started beside it."""

    def __init__(self, folder: Path, brokers: str) -> None:
        self.folder = folder
        self.brokers = brokers
        self.topic_prefix = f"console{uuid.uuid4().hex[:6]}."
        self.data_dir = folder / "data"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        (self.folder / "agents.toml").write_text(AGENTS)
        dev = self._run("dev", "dev", "--data-dir", str(self.data_dir), "--brokers", self.brokers)
        until(lambda: self.endpoints_path.exists() or dev.poll() is not None, READY_S, "headrace dev")
        assert dev.poll() is None, log_tail(self.folder / "dev.log", 60)

    @property
    def _environment(self) -> dict[str, str]:
        ours = {
            "HEADRACE_BROKERS": self.brokers,
            "HEADRACE_TOPIC_PREFIX": self.topic_prefix,
            "HEADRACE_PARTITIONS": "2",
        }
        if self.endpoints_path.exists():
            stores = self.endpoints
            ours |= {"HEADRACE_POSTGRES": stores["postgres"], "HEADRACE_REDIS": stores["redis"]}
        return environment(self.folder) | ours

    @property
    def endpoints_path(self) -> Path:
        return self.data_dir / FILE_NAME

    @property
    def endpoints(self) -> dict[str, Any]:
        return dict(json.loads(self.endpoints_path.read_text()))

    @property
    def url(self) -> str:
        return str(self.endpoints["gateway"])

    def start_closed_gateway(self) -> str:
        """A gateway that lets nobody in without a key; its address."""
        port = free_port()
        process = self._run("gateway", "gateway", "--port", str(port), "--data-dir", str(self.folder / "gateway"))
        url = f"http://127.0.0.1:{port}"
        until(lambda: is_up(url) or process.poll() is not None, READY_S, "a second gateway")
        assert process.poll() is None, log_tail(self.folder / "gateway.log", 20)
        return url

    def command(self, *words: str) -> str:
        """What `headrace` prints."""
        ended = subprocess.run(
            [sys.executable, "-m", "headrace", *words, "--data-dir", str(self.data_dir)],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            check=True,
            timeout=60,
        )
        return ended.stdout.decode()

    def release(self, name: str) -> None:
        """Let the model go on where it stopped at `[[hold:NAME]]`."""
        answer(f"{self.endpoints['model']}/control/released/{name}", method="PUT")

    def kill_gateway(self) -> None:
        """Without a word; the stack starts another one on the same port."""
        os.kill(self.endpoints["pids"]["gateway"], signal.SIGKILL)

    def transcript(self, session_id: str, until: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """What can be read of a session, as soon as it is so: that is projected after it was shown."""
        deadline = time.monotonic() + PROJECTED_S
        while True:
            found = items(f"{self.url}/v1/sessions/{session_id}/transcript?limit=200")
            if until(found) or time.monotonic() > deadline:
                return found
            time.sleep(0.05)

    def answers(self, session_id: str, count: int = 1) -> list[str]:
        """The text of each `turn_completed`, once there are so many."""

        def texts(items: list[dict[str, Any]]) -> list[str]:
            return [item["text"] for item in items if item.get("is_answer")]

        return texts(self.transcript(session_id, lambda items: len(texts(items)) >= count))

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self._processes):
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _run(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "headrace", *words],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._processes.append(process)
        return process


def wait_for_timeline(stack: Stack, session_id: str, *types: str) -> None:
    """Return when the timeline of the session has records of these types: its page reads it once."""
    url = f"{stack.url}/v1/sessions/{session_id}"

    def is_there() -> bool:
        missing = Counter(types) - Counter(item["type"] for item in items(f"{url}/log?limit=200"))
        return not missing and read(url) is not None

    until(is_there, PROJECTED_S, f"{types} in the timeline of {session_id}")


def is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health/live", timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
