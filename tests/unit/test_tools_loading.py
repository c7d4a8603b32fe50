"""Tools of users, from a module or a file."""

import sys
from pathlib import Path

import pytest

from agents.tools import ToolsNotLoadedError, load_tools

TWO_TOOLS = '''
from __future__ import annotations
import msgspec
from agents.tools import tool

class Place(msgspec.Struct):
    name: str

@tool
async def here(place: Place) -> str:
    """Here."""
    return place.name

@tool(name="over-there")
async def there() -> str:
    """There."""
    return ""

alias = here
'''


def test_all_tools_of_a_file(tmp_path: Path) -> None:
    """A second name for the same tool adds none; hints that are strings are resolved in the file."""
    path = tmp_path / "my_tools.py"
    path.write_text(TWO_TOOLS)

    assert [one.name for one in load_tools(str(path)).tools] == ["here", "over-there"]


def test_all_tools_of_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is imported by name."""
    (tmp_path / "tools_of_a_package").mkdir()
    (tmp_path / "tools_of_a_package" / "places.py").write_text(TWO_TOOLS)
    monkeypatch.syspath_prepend(str(tmp_path))

    assert len(load_tools("tools_of_a_package.places").tools) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1", "got a module without any"),
        ("import not_there_at_all", "failed: ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("def", "failed: SyntaxError"),
        ("from agents.tools import tool\n@tool\ndef f(): 'Doc.'", "expected an `async def` function"),
        (TWO_TOOLS.replace("over-there", "here"), "two tools `here`"),
    ],
)
def test_a_file_that_has_no_usable_tools(tmp_path: Path, content: str, message: str) -> None:
    """Each reason is named, and the half-imported module does not stay."""
    path = tmp_path / "broken_tools.py"
    path.write_text(content)
    before = set(sys.modules)

    with pytest.raises(ToolsNotLoadedError, match=message):
        load_tools(str(path))
    if "failed" in message:
        assert "headrace_tools_broken_tools" not in set(sys.modules) - before


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("not_there.tools", "no module `not_there.tools` on the import path"),
        ("not_there/tools.py", "no file `not_there/tools.py`"),
        ("not there", "expected `package.module` or `path/to/file.py`"),
        ("", "expected `package.module` or `path/to/file.py`"),
    ],
)
def test_a_reference_to_nothing(reference: str, message: str) -> None:
    """The other way to give it is suggested."""
    with pytest.raises(ToolsNotLoadedError, match=message):
        load_tools(reference)
