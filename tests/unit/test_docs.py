"""What the README shows is tried, and what is generated is not stale."""

import re
import shlex
from pathlib import Path

import pytest

from agents.catalog import parse_agents
from agents.tools import Toolbox, built_in_tools, load_tools
from docs.generate import ROOT, between, stale
from headrace.cli import app
from runtime.settings import load_settings
from schemas.codec import decode_command

README_PAGE = ROOT / "README.md"
README = README_PAGE.read_text()


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


COMMAND = re.compile(r"^(?:HEADRACE_\w+=\S+ )*(?:\.venv/bin/)?headrace (.*)$")


def command_lines(page: Path) -> list[str]:
    """What follows `headrace` in the page's shell blocks."""
    shown = "".join(re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL))
    lines = shown.replace("\\\n", " ").splitlines()
    return [found[1] for line in lines if (found := COMMAND.match(line))]


SHOWN = [
    (page.name, line) for page in (README_PAGE, *sorted((ROOT / "docs").glob("*.md"))) for line in command_lines(page)
]


def test_pages_show_commands() -> None:
    """The next test looks at them."""
    assert {"README.md", "agents.md", "broadcasts.md", "dead-letters.md", "patterns.md", "replay.md"} <= dict(
        SHOWN
    ).keys()


@pytest.mark.parametrize(("page", "line"), SHOWN)
def test_the_command_lines_of_a_page_are_understood(page: str, line: str) -> None:
    """Each parses, global options included: a renamed option or command shows here."""
    del page
    _, bound, _ = app.meta.parse_args(shell_words(line), exit_on_error=False, print_error=False)
    app.parse_args(bound.arguments["tokens"], exit_on_error=False, print_error=False)


def shell_words(line: str) -> list[str]:
    """As a shell splits it, up to a comment, a pipe or a redirection."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|<>&")
    lexer.whitespace_split = True
    words = list(lexer)
    return words[: next((n for n, word in enumerate(words) if set(word) <= set("|<>&")), len(words))]


def test_the_page_about_agents_is_tried() -> None:
    """Its agent can be declared."""
    page = (ROOT / "docs/agents.md").read_text()
    (declared,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert list(parse_agents(declared, "agents.md")) == ["researcher"]
