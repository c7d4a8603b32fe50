"""The await points of the code under test, and at which of them workers were killed."""

import ast
import asyncio
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CoroutineType
from typing import Any

STREAMS = Path(__file__).parents[2] / "streams"
OUTSIDE = frozenset(
    {
        *("announce", "app", "changelog", "consumer", "fence", "late_joiners", "lease", "publisher", "redis_counter"),
        *("replay_broadcasts", "roster", "table", "worker"),
    }
)
"""What the simulation does not play, or puts its own broker, tables and lease in the place of."""
Point = tuple[str, int]
"""A module of `streams`, and a line."""


@cache
def await_points() -> dict[Point, str]:
    """All of them, with the function that each is in."""
    points: dict[Point, str] = {}
    for path in sorted(STREAMS.glob("*.py")):
        if path.stem in OUTSIDE:
            continue
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.AsyncFunctionDef):
                points |= {(path.stem, line): function.name for line in _lines(function)}
    return points


@cache
def _spans() -> dict[str, list[tuple[int, int]]]:
    """The first and the last line of the awaits of each module."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for path in sorted(STREAMS.glob("*.py")):
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Await)]
        spans[path.stem] = [(node.lineno, node.end_lineno or node.lineno) for node in nodes]
    return spans


def _lines(function: ast.AsyncFunctionDef) -> Iterator[int]:
    for node in ast.walk(function):
        if isinstance(node, ast.Await):
            yield node.lineno


@cache
def _point(module: str, line: int) -> Point | None:
    """The innermost await that the line is of; a task that has not begun is at none."""
    around = [span for span in _spans()[module] if span[0] <= line <= span[1]]
    return (module, min(around, key=lambda span: span[1] - span[0])[0]) if around else None


def points_of(task: asyncio.Task[Any]) -> Iterator[Point]:
    """Where the task is suspended: in the function that waits, and in all that wait for that one."""
    coroutine: Any = task.get_coro()
    while isinstance(coroutine, CoroutineType):
        folder, _, name = coroutine.cr_code.co_filename.rpartition("/")
        frame = coroutine.cr_frame
        if frame is not None and folder == str(STREAMS):
            point = _point(name.removesuffix(".py"), frame.f_lineno)
            if point is not None and point[0] not in OUTSIDE:
                yield point
        coroutine = coroutine.cr_await
