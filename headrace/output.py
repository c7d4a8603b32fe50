"""Output: JSON lines where a program reads, colours and tables where a person looks. Errors are lines on stderr."""

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from rich.console import Console


@cache
def console() -> "Console":
    """For people, on stdout; it leaves colours out by itself where there is no terminal."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One line of JSON, visible at once to whoever reads the pipe."""
    print_json_bytes(msgspec.json.encode(value))


def print_json_bytes(line: bytes) -> None:
    """One line that is JSON already."""
    print(line.decode(), flush=True)


def print_error(message: str) -> None:
    """One line on stderr for each line of the message."""
    for line in message.splitlines():
        print(f"headrace: {line}", file=sys.stderr)
