"""The command without a broker: help, usage errors, settings errors, and where the brokers come from."""

import sys
from pathlib import Path

import pytest
import structlog

from headrace.cli import app, run
from headrace.context import Context
from headrace.stack.endpoints import Endpoints, write_endpoints
from runtime.settings import Settings

COMMANDS = (
    ["worker"],
    ["topics", "apply"],
    ["topics", "check"],
    ["send"],
    ["chat"],
    ["tail"],
    ["dlq", "list"],
    ["dlq", "show"],
    ["dlq", "replay"],
    ["project"],
    ["migrate"],
    ["rebuild"],
    ["simulate-model"],
    ["doctor"],
)


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the developer's environment nor a headrace.toml nearby takes part."""
    import os

    for name in [name for name in os.environ if name.startswith(("HEADRACE_", "ANTHROPIC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Each command's help has a sentence, an example, and the global options."""
    assert run([*command, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"headrace {' '.join(command)}" in shown
    assert "Example:" in shown
    assert "--brokers" in shown


def test_first_help_names_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has to read the source to find a command."""
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert command[0] in shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """One line with the name."""
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("headrace ")


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["sendd"], 'Unknown command "sendd". Did you mean "send"?'),
        (["send"], "requires an argument"),
        (["send", "s1", "hi", "--agentt", "x"], "Unknown option: --agentt."),
        (["tail", "user-messages", "--limit", "many"], "--limit"),
        (["tail", "user-message"], "expected one of user-messages, broadcasts"),
        (["--brokers", "nowhere", "topics", "check"], "brokers (option --brokers): expected host:port"),
        (["topics", "check", "--config", "gone.toml"], "option --config: expected a TOML file, got gone.toml"),
    ],
)
def test_usage_error(tokens: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, one line on stderr, nothing on stdout, no traceback."""
    assert run(tokens) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("headrace: ")
    assert err.count("\n") == 1


def test_wrong_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every wrong setting has its line."""
    monkeypatch.setenv("HEADRACE_PARTITIONS", "none")
    monkeypatch.setenv("HEADRACE_STORE", "tape")
    assert run(["topics", "check"]) == 2
    assert [line.split("(")[0] for line in capsys.readouterr().err.splitlines()] == [
        "headrace: partitions ",
        "headrace: store ",
    ]


@pytest.mark.parametrize("place", ["before", "after"])
def test_global_options_anywhere(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`headrace --brokers B topics check` and `headrace topics check --brokers B` are the same."""
    seen: list[Settings] = []
    monkeypatch.setitem(sys.modules, "headrace.topics", _Topics(seen))
    options = ["--brokers", "b:1", "--json"]
    tokens = [*options, "topics", "check"] if place == "before" else ["topics", "check", *options]
    assert run(tokens) == 0
    assert [settings.brokers for settings in seen] == ["b:1"]


def test_what_is_logged_is_no_output(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A program that reads the output of a command reads nothing that was logged on the way."""
    before = structlog.get_config()
    monkeypatch.setitem(sys.modules, "headrace.topics", _Topics([]))
    try:
        assert run(["topics", "check"]) == 0
        structlog.get_logger().warning("on_the_way")
    finally:
        structlog.configure(**before)
    out, err = capsys.readouterr()
    assert "on_the_way" in err
    assert "on_the_way" not in out


class _Topics:
    """Stands for the module that talks to the brokers."""

    def __init__(self, seen: list[Settings]) -> None:
        self._seen = seen

    async def check_topics(self, settings: Settings) -> list[object]:
        self._seen.append(settings)
        return []


def test_stack_is_found(tmp_path: Path) -> None:
    """Where no brokers are set, a client uses those of the stack that runs on the data directory."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    context = Context(options={"data_dir": data_dir})
    assert context.client_settings().brokers == "127.0.0.1:9092"
    write_endpoints(data_dir, Endpoints(kafka="127.0.0.1:4242"))
    assert context.client_settings().brokers == "127.0.0.1:4242"
    assert context.settings().brokers == "127.0.0.1:9092"
    chosen = Context(options={"data_dir": data_dir, "brokers": "b:1"})
    assert chosen.client_settings().brokers == "b:1"


def test_broken_endpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not what `headrace dev` writes is an error that names it."""
    (tmp_path / "endpoints.json").write_text("{}")
    assert run(["topics", "check", "--data-dir", str(tmp_path)]) == 1
    assert "endpoints.json" in capsys.readouterr().err


def test_names_of_commands() -> None:
    """The commands that the documentation names are there."""
    assert {"worker", "topics", "send", "chat", "tail", "dlq", "simulate-model", "doctor"} <= set(app)
