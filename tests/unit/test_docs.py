"""What the README shows is tried, and what is generated is not stale."""

import re
from pathlib import Path
from typing import Any

import pytest

from agents.catalog import parse_agents
from agents.tools import Toolbox, built_in_tools, load_tools
from docs.generate import ROOT, between, stale
from headrace.cli import app
from runtime.settings import load_settings
from schemas.codec import decode_command

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_generated_documents_are_not_stale() -> None:
    """Whoever changes the topology, a topic or a setting runs `make docs`."""
    assert list(stale()) == []


def test_a_part_without_its_markers_is_refused() -> None:
    """Otherwise a README whose marker was lost would never be written again, and nobody would see it."""
    with pytest.raises(ValueError, match="<!-- flow -->"):
        between("# Title\n", "flow", "x")


def test_the_agent_the_tools_and_the_settings_of_the_readme_fit_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader who copies the three files has an agent that can be served."""
    agents, settings = blocks("toml")
    (tools,) = (block for block in blocks("python") if "@tool" in block)
    (tmp_path / "agents.toml").write_text(agents)
    (tmp_path / "tools.py").write_text(tools)
    (tmp_path / "headrace.toml").write_text(settings)
    monkeypatch.chdir(tmp_path)
    loaded = load_settings()
    assert loaded.agents is not None
    assert loaded.agents.samefile(tmp_path / "agents.toml")
    (reference,) = loaded.tools
    offered = {tool.name for tool in Toolbox([*built_in_tools(), *load_tools(reference).tools]).tools}
    (clerk,) = parse_agents(agents, "README.md").values()
    assert set(clerk.tools) <= offered


def test_the_commands_of_the_readme_are_accepted() -> None:
    """Each JSON line is a record that `user-messages` takes."""
    (lines,) = blocks("json")
    for line in lines.splitlines():
        decode_command(line.encode())
    for message in re.findall(r"echo '(\{.*?\})'", README):
        decode_command(message.encode())


def test_the_command_lines_of_the_readme_are_understood() -> None:
    """Every `headrace …` line parses: a renamed option or command shows here."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    ours = [line.split("#")[0].split("headrace ", 1)[1] for line in lines if re.match(r"(\.venv/bin/)?headrace ", line)]
    assert len(ours) >= 8
    for arguments in ours:
        command: Any
        command, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
        assert callable(command)
        assert bound is not None


def test_the_page_about_agents_is_tried() -> None:
    """Its agent can be declared, and its commands are understood."""
    page = (ROOT / "docs/agents.md").read_text()
    (declared,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert list(parse_agents(declared, "agents.md")) == ["researcher"]
    lines = re.findall(r"^headrace (agents .*?) *#", page, re.MULTILINE)
    assert len(lines) == 5
    for arguments in lines:
        command: Any
        command, _, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
        assert callable(command)
