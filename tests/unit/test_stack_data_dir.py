"""One stack per data directory, and a file that says where it is."""

import os
import stat
from pathlib import Path

import msgspec
import pytest

from headrace.stack.data_dir import DataDirLock
from headrace.stack.endpoints import Endpoints, read_endpoints, remove_endpoints, write_endpoints
from headrace.stack.errors import DataDirInUseError, EndpointsError


def test_a_second_stack_is_refused_with_the_holders_pid(tmp_path: Path) -> None:
    """The person who starts the second one learns which process to stop, and can start when it has ended."""
    with DataDirLock(tmp_path / "new"):
        with pytest.raises(DataDirInUseError, match=rf"process id {os.getpid()}\..*--data-dir"):
            DataDirLock(tmp_path / "new").acquire()
        with DataDirLock(tmp_path / "another"):
            pass
    with DataDirLock(tmp_path / "new"):
        pass


def test_endpoints_are_read_as_they_were_written(tmp_path: Path) -> None:
    """What is not there is absent from the file; what every reader asks for is always there. Nobody else reads it."""
    written = Endpoints(kafka="127.0.0.1:9092", worker_pids=[7, 8], redis="redis://:hunter2@127.0.0.1:6379/0")
    path = write_endpoints(tmp_path, written)
    assert msgspec.json.decode(path.read_bytes()) == {
        "kafka": "127.0.0.1:9092",
        "model": None,
        "worker_pids": [7, 8],
        "redis": "redis://:hunter2@127.0.0.1:6379/0",
        "pids": {},
    }
    assert read_endpoints(tmp_path) == written
    assert [entry.name for entry in tmp_path.iterdir()] == ["endpoints.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_shown_has_no_password() -> None:
    """Neither on the screen nor in the JSON that a log may keep; an address without one is shown as it is."""
    endpoints = Endpoints(
        kafka="k:1", redis="redis://:hunter2@127.0.0.1:6379/0", postgres="postgresql://ann:hunter2@db:5432/x"
    )
    shown = endpoints.without_passwords()
    assert (shown.redis, shown.postgres) == ("redis://:***@127.0.0.1:6379/0", "postgresql://ann:***@db:5432/x")
    plain = Endpoints(kafka="k:1", redis="redis://127.0.0.1:6379/0")
    assert plain.without_passwords() == plain


def test_endpoints_of_a_newer_stack_can_be_read(tmp_path: Path) -> None:
    """An unknown server is ignored."""
    (tmp_path / "endpoints.json").write_text('{"kafka": "k:1", "telescope": "t:2"}')
    assert read_endpoints(tmp_path) == Endpoints(kafka="k:1")


def test_without_a_stack_the_error_says_how_to_start_one(tmp_path: Path) -> None:
    """After the end of a stack its endpoints are gone; removing them twice is no error."""
    write_endpoints(tmp_path, Endpoints(kafka="k:1"))
    remove_endpoints(tmp_path)
    remove_endpoints(tmp_path)
    with pytest.raises(EndpointsError, match="headrace dev --data-dir"):
        read_endpoints(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """A file that somebody else wrote is not half believed."""
    (tmp_path / "endpoints.json").write_text('{"kafka": 5}')
    with pytest.raises(EndpointsError, match=r"endpoints\.json is not what"):
        read_endpoints(tmp_path)
