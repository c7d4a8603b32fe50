"""What the stack's servers keep, and what its gateway is told."""

import importlib.util
import stat
import tempfile
from pathlib import Path

import pytest
from pydantic import SecretStr

from headrace.development.options import StackOptions, development_gateway, gateway_url
from headrace.stack.programs import ProgramMissingError, for_everyone, valkey_server
from headrace.stack.secret import kept_password
from runtime.settings import Settings
from runtime.settings.values import GatewaySettings


def test_a_password_is_made_once_and_is_its_owners(tmp_path: Path) -> None:
    """The server's data were made with it; two servers have two."""
    path = tmp_path / "new" / "password"
    password = kept_password(path)
    assert len(password) == 32
    assert kept_password(path) == password != kept_password(tmp_path / "another")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["password"]


def test_programs_that_everybody_reaches_are_run_where_they_are(tmp_path: Path) -> None:
    """Nothing is copied, and nothing noted."""
    assert for_everyone(Path("/usr/bin"), tmp_path) == Path("/usr/bin")
    assert list(tmp_path.iterdir()) == []


def test_programs_behind_a_closed_door_are_copied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole installation, with its libraries; a copy that somebody removed is made anew."""
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    closed = tmp_path / "closed"
    programs = closed / "package" / "install" / "bin"
    programs.mkdir(parents=True)
    (programs / "server").write_text("program")
    (closed / "package.libs").mkdir()
    (closed / "another-package").mkdir()
    closed.chmod(0o700)
    notes = tmp_path / "notes"

    found = for_everyone(programs, notes)
    assert found == for_everyone(programs, notes)
    (copy,) = copies.iterdir()
    assert found == copy / "package" / "install" / "bin"
    assert (found / "server").read_text() == "program"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o755
    assert {entry.name for entry in copy.iterdir()} == {"package", "package.libs"}

    copy.rename(tmp_path / "away")
    assert (for_everyone(programs, notes) / "server").exists()


def test_a_server_that_is_not_installed_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either the package, or a server of one's own."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ProgramMissingError, match=r"headrace\[dev\].*HEADRACE_REDIS"):
        valkey_server()


@pytest.mark.parametrize(
    ("asked", "port", "is_open", "url"),
    [
        (GatewaySettings(), 20_001, True, "http://127.0.0.1:20001"),
        (GatewaySettings(port=0), 20_001, True, "http://127.0.0.1:20001"),
        (GatewaySettings(port=9000, host="::1"), 9_000, True, "http://[::1]:9000"),
        (GatewaySettings(open=False), 20_001, False, "http://127.0.0.1:20001"),
        (GatewaySettings(host="0.0.0.0"), 20_001, False, "http://127.0.0.1:20001"),
        (GatewaySettings(host="192.0.2.7"), 20_001, False, "http://192.0.2.7:20001"),
    ],
)
def test_the_gateway_is_open_on_this_machine_only(asked: GatewaySettings, port: int, is_open: bool, url: str) -> None:  # noqa: FBT001 - a case of the table
    """Where others can reach it, and where the user says so, it asks for keys; what was asked for is not changed."""
    chosen = development_gateway(asked, 20_001)
    assert (chosen.port, chosen.open, gateway_url(chosen)) == (port, is_open, url)
    # What the process reads from its environment is accepted by its settings.
    GatewaySettings(host=chosen.host, port=chosen.port, open=chosen.open)


def test_readers_are_told_where_the_stores_are_and_workers_are_not(tmp_path: Path) -> None:
    """A worker needs neither, and what it does not know it cannot tell."""
    settings = Settings(
        data_dir=tmp_path,
        postgres=SecretStr("postgresql://ann:hunter2@db:5432/x"),
        redis=SecretStr("redis://:hunter2@cache:6379/0"),
    )
    options = StackOptions(settings=settings)
    told = options.reader_environment(settings)
    assert told["HEADRACE_POSTGRES"] == "postgresql://ann:hunter2@db:5432/x"
    assert told["HEADRACE_REDIS"] == "redis://:hunter2@cache:6379/0"
    assert told["HEADRACE_GATEWAY_OPEN"] == "false"
    assert "hunter2" not in str(options.worker_environment(settings))
    shared = settings.model_copy(update={"budgets": tmp_path / "budgets.toml"})
    told = options.worker_environment(shared)
    assert told["HEADRACE_BUDGETS"] == str(tmp_path / "budgets.toml")
    assert told["HEADRACE_REDIS"] == "redis://:hunter2@cache:6379/0", "there they count what all may spend"
    assert "HEADRACE_POSTGRES" not in told
