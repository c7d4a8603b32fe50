"""The files of a session: they stay in its folder, whatever a path says and whatever lies in the folder."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.tools import Tool, Toolbox, ToolContext, ToolError, ToolFault, ToolReturn
from agents.tools.file_tools import file_tools
from agents.tools.session_files import FileLimits, SessionFiles, folder_name

ANN = ToolContext(call_id="s1/1/2", session_id="s1", agent="assistant")
LIMITS = FileLimits(max_file_bytes=100, max_files=3, max_bytes=200, min_free_bytes=0)


@pytest.fixture
def files(tmp_path: Path) -> SessionFiles:
    (tmp_path / "secret.txt").write_text("secret")
    return SessionFiles(tmp_path / "files", LIMITS)


@pytest.fixture
def folder(files: SessionFiles, tmp_path: Path) -> Path:
    """Ann's, with one file."""
    files.write(ANN, "a.txt", "mine")
    return tmp_path / "files" / folder_name(ANN)


def test_a_file_is_written_read_replaced_and_listed(files: SessionFiles) -> None:
    """Folders are made; sizes are in bytes."""
    assert files.list(ANN) == []
    files.write(ANN, "drafts/größe.md", "one")
    files.write(ANN, "drafts/größe.md", "zwölf")
    files.write(ANN, "b", "")

    assert files.read(ANN, "drafts/größe.md") == "zwölf"
    assert [(file.path, file.bytes) for file in files.list(ANN)] == [("b", 0), ("drafts/größe.md", 6)]


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "../../secret.txt",
        "a/../../secret.txt",
        "/etc/passwd",
        "//etc/passwd",
        "./a.txt",
        "a//b",
        "a/",
        "",
        ".",
        "..",
        ".hidden",
        "..\\secret.txt",
        "C:\\secret.txt",
        "c:secret.txt",
        "a\0b",
        "a\nb",
        "~/../x\x7f",
        "x" * 201,
        "ä" * 101,
        "/".join("abcdefghi"),
        "a/" * 160 + "b",
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(files: SessionFiles, path: str, tmp_path: Path) -> None:
    """For reading and for writing, before anything is opened."""
    for act in (lambda: files.read(ANN, path), lambda: files.write(ANN, path, "x")):
        with pytest.raises(ToolError, match="expected a relative path"):
            act()
    assert (tmp_path / "secret.txt").read_text() == "secret"
    assert list(tmp_path.rglob("*.txt")) == [tmp_path / "secret.txt"]


def test_links_are_not_followed(files: SessionFiles, folder: Path, tmp_path: Path) -> None:
    """Neither of a file nor of a folder, should somebody have put them there."""
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "out").symlink_to(tmp_path)
    (folder / "dangling").symlink_to(tmp_path / "new.txt")

    for path in ("link.txt", "out/secret.txt", "dangling"):
        with pytest.raises(ToolError):
            files.read(ANN, path)
        with pytest.raises(ToolError, match="something"):
            files.write(ANN, path, "overwritten")
    assert (tmp_path / "secret.txt").read_text() == "secret"
    assert not (tmp_path / "new.txt").exists()
    assert [file.path for file in files.list(ANN)] == ["a.txt"]


def test_a_session_folder_that_is_a_link_is_not_entered(files: SessionFiles, tmp_path: Path) -> None:
    """It would lead the whole session elsewhere."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / folder_name(ANN)).symlink_to(tmp_path)

    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        files.read(ANN, "secret.txt")


def test_what_is_no_file_is_no_file(files: SessionFiles, folder: Path) -> None:
    """A pipe without a writer must not hold a thread for ever."""
    os.mkfifo(folder / "pipe")
    (folder / "sub").mkdir()

    with pytest.raises(ToolError, match="something else"):
        files.read(ANN, "pipe")
    for path in ("sub", "pipe"):
        with pytest.raises(ToolError, match="something else"):
            files.write(ANN, path, "x")
    with pytest.raises(ToolError, match="not a folder"):
        files.read(ANN, "a.txt/b")


def test_a_session_sees_its_own_files_only(files: SessionFiles, folder: Path) -> None:
    """Not those of another session, nor of the same id in another tenant, however the ids look."""
    assert folder.is_dir()
    others = [
        ToolContext(call_id="c", session_id="s2", agent="assistant"),
        ToolContext(call_id="c", session_id="s1", agent="assistant", tenant="acme"),
        ToolContext(call_id="c", session_id=f"../{folder.name}", agent="assistant"),
        ToolContext(call_id="c", session_id=folder.name, agent="assistant"),
        ToolContext(call_id="c", session_id="..", agent="assistant"),
    ]

    for other in others:
        assert files.list(other) == []
        with pytest.raises(ToolError, match=r"no file `a\.txt`"):
            files.read(other, "a.txt")
    assert len({folder_name(context) for context in (ANN, *others)}) == 6


def test_limits(files: SessionFiles) -> None:
    """Of a file, of their number, and of all together; a file that is replaced does not count twice."""
    with pytest.raises(ToolError, match="at most 100 bytes, got 101"):
        files.write(ANN, "a", "x" * 101)
    files.write(ANN, "a", "x" * 100)
    files.write(ANN, "a", "y" * 100)
    files.write(ANN, "b", "x" * 90)
    with pytest.raises(ToolError, match="would have 201 bytes, at most 200"):
        files.write(ANN, "c", "x" * 11)
    files.write(ANN, "c", "x")
    with pytest.raises(ToolError, match="has its 3 files"):
        files.write(ANN, "d", "")
    files.write(ANN, "c", "")


def test_a_nearly_full_disk_is_left_to_others(tmp_path: Path) -> None:
    """The worker's own tables are perhaps on it."""
    files = SessionFiles(tmp_path, FileLimits(min_free_bytes=1 << 60))

    with pytest.raises(ToolError, match="nearly full"):
        files.write(ANN, "a", "x")


def test_what_a_crash_left_is_neither_shown_nor_in_the_way(files: SessionFiles, folder: Path) -> None:
    """An unfinished file is overwritten by the next try."""
    original = os.replace

    def crash(*_: object, **__: object) -> None:
        raise SystemExit

    os.replace = crash
    try:
        with pytest.raises(SystemExit):
            files.write(ANN, "a.txt", "half")
    finally:
        os.replace = original

    assert len(list(folder.iterdir())) == 2
    assert [(file.path, file.bytes) for file in files.list(ANN)] == [("a.txt", 4)]
    assert files.read(ANN, "a.txt") == "mine"
    files.write(ANN, "a.txt", "whole")
    assert [path.name for path in folder.iterdir()] == ["a.txt"]


def test_binary_and_large_files_are_not_read(files: SessionFiles, folder: Path) -> None:
    """Files that another program put there may be anything."""
    (folder / "binary").write_bytes(b"\x89PNG\0")
    (folder / "large").write_bytes(b"x" * 101)

    with pytest.raises(ToolError, match="binary"):
        files.read(ANN, "binary")
    with pytest.raises(ToolError, match="more than the 100 bytes"):
        files.read(ANN, "large")


@pytest.fixture
def toolbox(tmp_path: Path) -> Iterator[Toolbox]:
    tools: tuple[Tool, ...] = file_tools(tmp_path, FileLimits())
    yield Toolbox(tools)
    for one in tools:
        if one.on_close is not None:
            one.on_close()


async def said(toolbox: Toolbox, name: str, **input: object) -> str:
    outcome = await toolbox.run(name, input, context=ANN, timeout_s=10)
    return outcome.content if isinstance(outcome, ToolReturn) else outcome.failure.message


async def test_the_tools_answer(toolbox: Toolbox) -> None:
    """A conversation with its files."""
    assert await said(toolbox, "list_files") == "There are no files yet."
    assert await said(toolbox, "write_file", path="d/a.txt", content="1\n2\n3\n") == "wrote 6 bytes to d/a.txt"
    assert await said(toolbox, "list_files") == "d/a.txt (6 bytes)"
    assert await said(toolbox, "read_file", path="d/a.txt") == "1\n2\n3\n"
    assert await said(toolbox, "read_file", path="d/a.txt", first_line=2, max_lines=1) == "2\n\n[lines 3 to 3 follow]"
    assert "has 3 lines, got first_line 9" in await said(toolbox, "read_file", path="d/a.txt", first_line=9)
    assert "expected a relative path" in await said(toolbox, "read_file", path="../a.txt")


async def test_without_a_folder_they_say_what_to_set() -> None:
    """And the worker's own folder is not used instead."""
    tools = file_tools(None, FileLimits())
    assert all(one.missing is not None and "HEADRACE_TOOLBOX_FILES_DIR" in one.missing for one in tools)

    outcome = await Toolbox(tools).run("write_file", {"path": "a", "content": "x"}, context=ANN, timeout_s=10)

    assert isinstance(outcome, ToolFault)
    assert "toolbox.files_dir" in outcome.failure.message
    assert not Path("a").exists()  # noqa: ASYNC240 - nothing asynchronous about it
    tools[0].on_close() if tools[0].on_close else None
