"""Google-style docstrings: what the model reads about a tool, and about each of its arguments."""

import inspect
import re

from msgspec import Struct

_SECTION = re.compile(r"^(Args|Arguments|Raises|Returns|Yields|Example|Examples|Note|Notes):\s*$")
_ARGUMENT = re.compile(r"^(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")
_NOT_FOR_MODELS = ("Args", "Arguments", "Raises")


class Docstring(Struct, frozen=True):
    """`description` is everything but the sections on arguments and exceptions."""

    description: str
    arguments: dict[str, str]


def parse_docstring(text: str) -> Docstring:
    sections: list[tuple[str, list[str]]] = [("", [])]
    for line in inspect.cleandoc(text).splitlines():
        heading = _SECTION.match(line)
        if heading is None:
            sections[-1][1].append(line)
        else:
            sections.append((heading[1], []))
    shown = [
        "\n".join([f"{name}:", *lines] if name else lines).strip()
        for name, lines in sections
        if name not in _NOT_FOR_MODELS
    ]
    arguments: dict[str, str] = {}
    for name, lines in sections:
        if name in ("Args", "Arguments"):
            arguments |= _parse_arguments(lines)
    return Docstring("\n\n".join(part for part in shown if part), arguments)


def _parse_arguments(lines: list[str]) -> dict[str, str]:
    """An argument begins at the indentation of the first one; what is indented deeper continues it."""
    arguments: dict[str, str] = {}
    name = ""
    margin = min((_indent(line) for line in lines if line.strip()), default=0)
    for line in lines:
        start = _ARGUMENT.match(line.strip()) if _indent(line) == margin else None
        if start is not None:
            name = start[1]
            arguments[name] = start[2]
        elif name and line.strip():
            arguments[name] = f"{arguments[name]} {line.strip()}".strip()
    return arguments


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
