"""The console's files: complete, small, and without anything that its policy would refuse."""

import gzip
import re
from pathlib import Path, PurePosixPath

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from gateway.pages import FOLDER, Pages
from gateway.problems import Code, Problem

IMPORT = re.compile(r"""(?<!["'])(?:\bfrom|\bimport)\s*["']([^"']+)["']""")
REFERENCE = re.compile(r"""(?:href|src)="([^"]+)\"""")
OWN = sorted(path for path in FOLDER.rglob("*") if path.is_file() and "vendor" not in path.parts)
FORBIDDEN = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "cssText")
MAX_LINES = 400
MAX_SENT_BYTES = 100_000
"""Of the whole console, compressed: a second on a slow phone's line."""


def get(path: str, version: str = "", headers: dict[str, str] | None = None) -> web.Request:
    return make_mocked_request("GET", "/", headers, match_info={"path": path, "version": version})


def test_every_file_that_is_named_is_there() -> None:
    """Imports are relative, so that no import map is needed, and lead to files; so does what the page names."""
    files = Pages().files
    for name, file in files.items():
        if name.endswith((".js", ".mjs")):
            for target in IMPORT.findall(file.body.decode()):
                assert target.startswith("."), f"{name} imports {target}"
                parts: list[str] = []
                for part in (PurePosixPath(name).parent / target).parts:
                    parts = parts[:-1] if part == ".." else [*parts, part]
                assert "/".join(parts) in files, f"{name} imports {target}"
    version = Pages().version
    for target in REFERENCE.findall(files["index.html"].body.decode()):
        assert target.removeprefix(f"/console/{version}/") in files


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_nothing_is_inline_and_nothing_is_large(path: Path) -> None:
    """What the policy forbids is not tried, nor is a text made markup."""
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    for forbidden in FORBIDDEN:
        assert forbidden not in text
    if path.suffix == ".html":
        assert "<style" not in text
        assert not re.search(r"<script(?![^>]*\bsrc=)", text)


def test_the_whole_console_is_small() -> None:
    """All files together, as they are sent."""
    assert sum(len(file.gzipped) for file in Pages().files.values()) < MAX_SENT_BYTES


async def test_files_are_kept_for_good_and_the_page_is_asked_for_again() -> None:
    """What has the version in its path never changes; the page says no-cache, and is not sent twice."""
    pages = Pages()
    page = await pages.page(get("", headers={"Accept-Encoding": "gzip"}))
    assert page.headers["Cache-Control"] == "no-cache"
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert pages.version in gzip.decompress(page.body).decode()  # type: ignore[arg-type] # It is bytes here.
    again = await pages.page(get("", headers={"Accept-Encoding": "gzip", "If-None-Match": page.headers["ETag"]}))
    assert again.status == 304
    script = await pages.file(get("main.js", pages.version))
    assert script.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert "immutable" in script.headers["Cache-Control"]
    module = await pages.file(get("vendor/preact/preact.mjs", "0123"))
    assert module.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert module.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "path", ["nothing.js", "../pages.py", "index.html", "vendor/README.md", "vendor/preact/LICENSE"]
)
async def test_only_the_console_s_own_files_are_served(path: str) -> None:
    """Whatever the path says, it is looked up among the files that were read at the start."""
    with pytest.raises(Problem) as raised:
        await Pages().file(get(path, "0123"))
    assert raised.value.code is Code.NOT_FOUND
