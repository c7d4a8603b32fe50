"""Reading, writing and listing the files of the session."""

import os
from pathlib import Path
from typing import Annotated

import msgspec

from agents.tools.declaration import Tool, tool, unconfigured
from agents.tools.port import ToolContext, ToolError
from agents.tools.session_files import MAX_PATH_CHARS, FileLimits, SessionFiles
from agents.tools.threads import Threads

MAX_CONTENT_CHARS = 500_000
MAX_LINES = 5_000
FILE_THREADS = 4
"""Of its own: a network disk that hangs must not hold what others need."""
MISSING = "toolbox.files_dir (HEADRACE_TOOLBOX_FILES_DIR): a folder for the files of sessions"

Path_ = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_PATH_CHARS)]


def file_tools(root: Path | None, limits: FileLimits) -> tuple[Tool, ...]:
    """`read_file`, `write_file` and `list_files`."""
    files = SessionFiles(root or Path(os.devnull), limits)
    threads = Threads("files", FILE_THREADS)

    @tool(idempotent=True, attempts=1, timeout_s=20, on_close=threads.close)
    async def read_file(
        path: Path_,
        context: ToolContext,
        first_line: Annotated[int, msgspec.Meta(ge=1)] = 1,
        max_lines: Annotated[int, msgspec.Meta(ge=1, le=MAX_LINES)] = MAX_LINES,
    ) -> str:
        """Read a text file of this conversation.

        Args:
            path: where it is, such as "drafts/letter.md".
            first_line: the first line to read, counted from 1.
            max_lines: how many lines to read.
            context: whose files.
        """
        text = await threads.run(files.read, context, path)
        lines = text.splitlines(keepends=True)
        if first_line > max(len(lines), 1):
            raise ToolError(f"`{path}` has {len(lines):,} lines, got first_line {first_line:,}")
        last = first_line - 1 + max_lines
        more = f"\n[lines {last + 1:,} to {len(lines):,} follow]" if last < len(lines) else ""
        return "".join(lines[first_line - 1 : last]) + more

    @tool(idempotent=True, attempts=1, timeout_s=20)
    async def write_file(
        path: Path_, content: Annotated[str, msgspec.Meta(max_length=MAX_CONTENT_CHARS)], context: ToolContext
    ) -> str:
        """Write a text file that stays with this conversation; one that is there is replaced as a whole.

        Args:
            path: a relative path, such as "letter.md" or "drafts/letter.md"; folders are made.
            content: the whole text of the file.
            context: whose files.
        """
        size = await threads.run(files.write, context, path, content)
        return f"wrote {size:,} bytes to {path}"

    @tool(idempotent=True, attempts=1, timeout_s=20)
    async def list_files(context: ToolContext) -> str:
        """List the files of this conversation with their sizes."""
        found = await threads.run(files.list, context)
        return "\n".join(f"{file.path} ({file.bytes:,} bytes)" for file in found) or "There are no files yet."

    tools = (read_file, write_file, list_files)
    return tools if root is not None else tuple(unconfigured(one, MISSING) for one in tools)
