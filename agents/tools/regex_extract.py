"""Finds what matches a regular expression. RE2's time is linear in the text, whatever the expression."""

import time
from typing import Annotated, Any

import msgspec

from agents.tools.declaration import Tool, tool
from agents.tools.port import ToolError
from agents.tools.threads import Threads

MAX_TEXT_CHARS = 500_000
MAX_PATTERN_CHARS = 1_000
MAX_MATCHES = 1_000
MAX_ANSWER_CHARS = 100_000
MAX_S = 5.0
"""Of all matches together: each one may read the rest of the text."""
SEARCH_THREADS = 2
COMPILED_BYTES = 4 << 20
"""Of a compiled expression, a hundred are kept; a larger one is refused by RE2."""


def regex_extract_tool() -> Tool:
    threads = Threads("regex_extract", SEARCH_THREADS)

    @tool(idempotent=True, attempts=1, timeout_s=30, on_close=threads.close)
    async def regex_extract(
        text: Annotated[str, msgspec.Meta(max_length=MAX_TEXT_CHARS)],
        pattern: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_PATTERN_CHARS)],
        max_matches: Annotated[int, msgspec.Meta(ge=1, le=MAX_MATCHES)] = 100,
        *,
        ignore_case: bool = False,
    ) -> list[Any]:
        r"""Find all matches of a regular expression in a text.

        Returns a JSON list in the order of the text: of what matched, or, where the pattern has groups, of objects
        with one value per group, by name or number. `^` and `$` match at each line.

        Args:
            text: what to search.
            pattern: RE2 syntax, such as "(?P<year>\d{4})-\d\d"; without look-around and back-references.
            max_matches: stop after so many.
            ignore_case: whether upper and lower case are the same.
        """
        return await threads.run(extract, text, pattern, max_matches, ignore_case=ignore_case)

    return regex_extract


def extract(text: str, pattern: str, max_matches: int, *, ignore_case: bool) -> list[Any]:
    """The matches: strings, or dicts by group.

    Raises:
        ToolError: the pattern is not one that RE2 has, or the matches take too long.
    """
    import re2

    options = re2.Options()
    options.max_mem = COMPILED_BYTES
    options.log_errors = False
    options.case_sensitive = not ignore_case
    try:
        compiled = re2.compile(f"(?m){pattern}", options)
    except re2.error as error:
        said = error.args[0].decode("utf-8", "replace") if error.args and isinstance(error.args[0], bytes) else error
        raise ToolError(
            f"expected a regular expression in RE2 syntax (no look-around, no back-references): {said}"[:1_000]
        ) from None
    names = {number: name for name, number in compiled.groupindex.items()}
    deadline = time.monotonic() + MAX_S
    found: list[Any] = []
    chars = 0
    for match in compiled.finditer(text):
        groups = match.groups()
        value = {names.get(n, str(n)): group for n, group in enumerate(groups, start=1)} if groups else match.group()
        chars += sum(len(group or "") for group in groups) if groups else len(value)
        if chars > MAX_ANSWER_CHARS:
            if not found:
                raise ToolError(f"the first match has more than {MAX_ANSWER_CHARS:,} characters: narrow the pattern")
            break
        found.append(value)
        if len(found) >= max_matches:
            break
        if time.monotonic() > deadline:
            raise ToolError(f"the matches took more than {MAX_S:g} s: search a shorter text, or for fewer matches")
    return found
