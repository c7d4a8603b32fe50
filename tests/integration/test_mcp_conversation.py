"""A worker with MCP servers: one is reached, one is not, and both are declared in its settings' file."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from chaos.cluster import Cluster
from line import WAIT_S, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

STAND = Path(__file__).parents[1] / "mcp_stand.py"
AGENT = """
[assistant]
instructions = "Count."
model = "claude-haiku-5-5"
tools = ["stand_add", "stand_process", "away_add"]
"""
STARTED = {"mcp_server_connected", "mcp_server_unreachable", "tools_missing"}
EXPECTED = ("mcp_server_unreachable", "tools_missing", "mcp_server_slow")


async def test_an_agent_answers_with_the_tools_that_are_there(cluster: Cluster, tmp_path: Path) -> None:
    """The operator is told which are not, by name; and a process of a server ends when its worker is killed."""
    servers = (
        f"[mcp.stand]\ncommand = ['{sys.executable}', '{STAND}', 'stdio']\n[mcp.away]\nurl = 'http://127.0.0.1:9/'\n"
    )
    (tmp_path / "outside.toml").write_text(servers)
    (tmp_path / "agents.toml").write_text(AGENT)
    files = {
        "HEADRACE_OUTSIDE_TOOLS": str(tmp_path / "outside.toml"),
        "HEADRACE_AGENTS": str(tmp_path / "agents.toml"),
    }
    async with serving(cluster, "mcp.", expected_errors=EXPECTED, **files) as (line, worker):
        async with asyncio.timeout(WAIT_S):
            while not {entry["event"] for entry in worker.log()} >= STARTED:
                await asyncio.sleep(0.05)
        entries = worker.log()
        asked = '[[tool:stand_add {"left": 2, "right": 40}]] [[tool:stand_process]] [[tool:away_add {"left": 1}]]'
        end = await line.ask("m1", asked)
        found = {event["tool"]: event for event in line.events("m1") if event["type"] == "tool_returned"}
    assert {entry["server"] for entry in entries if entry["event"] == "mcp_server_unreachable"} == {"away"}
    assert ["away_add"] in [entry["tools"] for entry in entries if entry["event"] == "tools_missing"]
    assert end["type"] == "turn_completed"
    assert (found["stand_add"]["content"], found["stand_add"]["is_error"]) == ("42", False)
    assert found["away_add"]["is_error"]
    assert "`away`" in found["away_add"]["content"]
    async with asyncio.timeout(30):
        while _lives(int(found["stand_process"]["content"])):
            await asyncio.sleep(0.1)


def _lives(pid: int) -> bool:
    """Whether the process runs; one that has ended may wait for its parent to be told."""
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
