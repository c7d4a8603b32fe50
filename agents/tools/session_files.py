"""A folder of files for each session.

A path is walked from the folder's own descriptor, one name at a time and never through a link: whatever a path says,
and whatever else writes there, nothing outside the folder is reached.
"""

import errno
import fcntl
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from msgspec import Struct

from agents.tools.port import ToolContext, ToolError

MAX_PATH_CHARS = 300
MAX_NAME_BYTES = 200
"""File systems end at 255; our own names of unfinished files are a little longer."""
MAX_DEPTH = 8
UNFINISHED = ".unfinished-"

_NAME = re.compile(r"[^\x00-\x1f\x7f/\\:]+")
_READABLE = re.compile(r"[^a-zA-Z0-9_-]")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class FileLimits(Struct, frozen=True, kw_only=True):
    """Of one session's folder."""

    max_file_bytes: int = 1 << 20
    max_files: int = 100
    max_bytes: int = 10 << 20
    min_free_bytes: int = 256 << 20  # Of the whole disk, which others need too.


class File(Struct, frozen=True):
    """`path` is relative to the session's folder."""

    path: str
    bytes: int


class SessionFiles:
    """The folders of all sessions, below `root`. Every method blocks."""

    def __init__(self, root: Path, limits: FileLimits) -> None:
        self._root = root
        self._limits = limits

    def read(self, context: ToolContext, path: str) -> str:
        """The text of a file; raises ToolError where there is none."""
        names = _names(path)
        with self._folder(context) as folder:
            if folder is None:
                raise _no_such(path)
            with _inside(folder, names[:-1], path) as parent:
                content = self._content(parent, names[-1], path)
        if b"\0" in content:
            raise ToolError(f"expected a text file, got `{path}`, which is binary")
        return content.decode("utf-8", "replace")

    def write(self, context: ToolContext, path: str, content: str) -> int:
        """Write a whole file, in one step for whoever reads it; how many bytes it has."""
        names = _names(path)
        data = content.encode("utf-8", "replace")
        if len(data) > self._limits.max_file_bytes:
            raise ToolError(f"expected at most {self._limits.max_file_bytes:,} bytes, got {len(data):,}: write parts")
        with self._folder(context, create=True) as folder:
            assert folder is not None
            self._check_room(folder, "/".join(names), len(data))
            with _inside(folder, names[:-1], path, create=True) as parent:
                _replace(parent, names[-1], data, path)
        return len(data)

    def list(self, context: ToolContext) -> list[File]:
        """All files of the session, by path."""
        with self._folder(context) as folder:
            return [] if folder is None else sorted(_files(folder), key=lambda file: file.path)

    @contextmanager
    def _folder(self, context: ToolContext, *, create: bool = False) -> Iterator[int | None]:
        """The descriptor of the session's folder, locked against other calls of the session; None where it has none."""
        if create:
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield None
            return
        try:
            name = folder_name(context)
            if create:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=root)
            try:
                folder = os.open(name, _FOLDER, dir_fd=root)
            except FileNotFoundError:
                folder = None
            if folder is None:
                yield None
                return
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)
                yield folder
            finally:
                os.close(folder)
        finally:
            os.close(root)

    def _content(self, parent: int, name: str, path: str) -> bytes:
        try:
            # Without waiting, since a pipe without a writer would block for ever.
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        except OSError as error:
            raise _refusal(error, path) from error
        with open(file, "rb") as opened:  # noqa: PTH123 - a descriptor has no path
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise ToolError(f"expected a file, got `{path}`, which is something else")
            content = opened.read(self._limits.max_file_bytes + 1)
        if len(content) > self._limits.max_file_bytes:
            raise ToolError(f"`{path}` has more than the {self._limits.max_file_bytes:,} bytes that can be read")
        return content

    def _check_room(self, folder: int, path: str, size: int) -> None:
        others = [file for file in _files(folder) if file.path != path]
        limits = self._limits
        if len(others) >= limits.max_files:
            raise ToolError(f"the session has its {limits.max_files} files: write to one of those that are there")
        total = size + sum(file.bytes for file in others)
        if total > limits.max_bytes:
            raise ToolError(
                f"the session's files would have {total:,} bytes, at most {limits.max_bytes:,}: "
                "write less, or replace a large file by a smaller one"
            )
        disk = os.fstatvfs(folder)
        if disk.f_bavail * disk.f_frsize < limits.min_free_bytes + size:
            raise ToolError("the disk is nearly full: go on without writing files, and say so", retryable=True)


def folder_name(context: ToolContext) -> str:
    """For people its beginning; the digest tells sessions apart, also those of different tenants with one id."""
    digest = sha256(f"{context.tenant or ''}\n{context.session_id}".encode()).hexdigest()[:32]
    return f"{_READABLE.sub('_', context.session_id)[:40]}-{digest}"


def _names(path: str) -> list[str]:
    """The path's names, each of which is safe to open in its folder."""
    names = unicodedata.normalize("NFC", path).split("/")
    bad = [
        name
        for name in names
        if name.startswith(".") or not _NAME.fullmatch(name) or len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES
    ]
    if bad or len(names) > MAX_DEPTH or len(path) > MAX_PATH_CHARS:
        raise ToolError(
            f"expected a relative path such as `notes.txt` or `drafts/one.md`, of at most {MAX_DEPTH} names that do "
            f"not begin with a dot and have no backslash or colon, got `{path[:MAX_PATH_CHARS]}`"
        )
    return names


@contextmanager
def _inside(folder: int, names: list[str], path: str, *, create: bool = False) -> Iterator[int]:
    """The descriptor of a folder inside the session's."""
    current = os.dup(folder)
    try:
        for name in names:
            try:
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(name, 0o700, dir_fd=current)
                inner = os.open(name, _FOLDER, dir_fd=current)
            except OSError as error:
                raise _refusal(error, path) from error
            os.close(current)
            current = inner
        yield current
    finally:
        os.close(current)


def _replace(parent: int, name: str, data: bytes, path: str) -> None:
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise ToolError(f"expected a file, got `{path}`, which is something else: choose another name")
    unfinished = f"{UNFINISHED}{sha256(name.encode('utf-8', 'replace')).hexdigest()[:16]}"
    with suppress(FileNotFoundError):
        os.unlink(unfinished, dir_fd=parent)
    file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
    with open(file, "wb") as opened:  # noqa: PTH123 - a descriptor has no path
        opened.write(data)
        opened.flush()
        os.fsync(file)
    os.replace(unfinished, name, src_dir_fd=parent, dst_dir_fd=parent)


def _files(folder: int) -> Iterator[File]:
    """All regular files below; links, and what a crash left unfinished, are passed over."""
    for here, _, names, descriptor in os.fwalk(".", dir_fd=folder, follow_symlinks=False):
        for name in names:
            found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode) and not name.startswith(UNFINISHED):
                yield File(os.path.normpath(f"{here}/{name}"), found.st_size)


def _refusal(error: OSError, path: str) -> ToolError:
    match error.errno:
        case errno.ENOENT:
            return _no_such(path)
        case errno.ELOOP | errno.ENOTDIR | errno.EMLINK:
            return ToolError(
                f"`{path}` leads over something that is not a folder: call list_files to see what is there"
            )
        case _:
            return ToolError(f"`{path}` cannot be opened: {os.strerror(error.errno or errno.EIO)}")


def _no_such(path: str) -> ToolError:
    return ToolError(f"there is no file `{path}` in this session: call list_files to see what is there")
