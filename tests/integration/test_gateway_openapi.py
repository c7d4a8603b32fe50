"""The whole gateway against its own OpenAPI document: whatever is sent, no 500, and each answer as the document says.

`make test` tries the same each time; `HEADRACE_TEST_API_SECONDS` gives it that time for others at random.
"""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from client_fixture import completed, stand_in, started
from gateway_fixture import door, projecting, stores
from kafka_fixture import Broker
from valkey_fixture import ValkeyServer

from gateway.scopes import Scope
from gateway.waiting import Waiting

SECONDS = int(os.environ.get("HEADRACE_TEST_API_SECONDS", "40"))
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "ignored_auth",
)
STREAMS = r"/events$|/v1/ws$"
"""They do not end by themselves; what they refuse is tried where they are."""
SEED = () if "HEADRACE_TEST_API_SECONDS" in os.environ else ("--seed", "7")
EXPECTED = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 503]
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, "5xx"]
"""
"""Its own ones; 413: what is too large is refused unread, whatever else is wrong; 503: what is slow may be given up."""


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.timeout(SECONDS * 3 + 120)
async def test_whatever_is_sent(
    embedded_kafka: Broker,
    postgres: str,
    valkey_server: ValkeyServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Valid and invalid bodies, parameters and headers for every endpoint, made of the document, by an operator."""

    async def end_at_once(waiting: Waiting, wait_s: float) -> None:
        del waiting, wait_s

    # Nobody answers here, and up to two minutes for each `wait` are too long.
    monkeypatch.setattr(Waiting, "end", end_at_once)
    async with (
        stores(embedded_kafka, postgres, valkey_server) as settings,
        door(settings.model_copy(update={"data_dir": tmp_path})) as gateway,
        projecting(settings.model_copy(update={"data_dir": tmp_path})),
        stand_in(settings) as stand,
    ):
        await stand.publish(started("s1", "m1", 1), completed("s1", "m1", 2))
        (tmp_path / "schemathesis.toml").write_text(EXPECTED)
        key = await gateway.key(None, tuple(Scope), requests_per_second=100_000)
        arguments = (
            "--url", gateway.url,
            "--header", f"Authorization: Bearer {key}",
            "--checks", ",".join(CHECKS),
            "--exclude-path-regex", STREAMS,
            "--max-time", str(SECONDS),
            "--max-examples", "1000" if SECONDS > 60 else "25",
            "--request-timeout", "30",
            "--workers", "2",
            *SEED,
            "--continue-on-failure",
            "--generation-database", "none",
            "--warnings", "off",
            "--no-color",
        )  # fmt: skip
        running = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json", *arguments),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await running.communicate()
        assert running.returncode == 0, said.decode()
        print(said.decode())
        assert (await gateway.ask("GET", "/health/ready")).status == 200
        metrics = (await gateway.ask("GET", "/metrics")).text
        assert 'status="500"' not in metrics
