"""How our code reads, as far as a test can tell: functions, files and classes are small, errors not swallowed."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("schemas", "agents", "streams", "projections", "gateway", "runtime", "headrace", "tests", "bench")
MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 400
MAX_METHODS = 15
MAX_PARAMETERS = 7
BANNED_ENDINGS = ("Manager", "Helper", "Util", "Utils", "Wrapper", "Base", "Mixin")
BROAD = frozenset({"Exception", "BaseException"})
Function = ast.FunctionDef | ast.AsyncFunctionDef


def files() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted((ROOT / folder).rglob("*.py"))


def problems(source: str) -> Iterator[str]:
    """What is untidy in a file, each with its line."""
    count = source.count("\n")
    if count > MAX_FILE_LINES:
        yield f"1: {count} lines, at most {MAX_FILE_LINES}: find the noun that wants out"
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from _of_function(node)
            case ast.ClassDef():
                yield from _of_class(node)
            case ast.Call(func=ast.Name(id="hasattr")):
                yield f"{node.lineno}: hasattr: ask for a type instead"
            case ast.ExceptHandler() if _is_broad(node) and not _is_heard_of(node):
                yield f"{node.lineno}: a broad except that swallows: name the exception, or pass it on"
            case _:
                pass


def _of_function(node: Function) -> Iterator[str]:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if lines > MAX_FUNCTION_LINES:
        yield f"{node.lineno}: {node.name} has {lines} lines, at most {MAX_FUNCTION_LINES}"
    arguments = node.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    parameters = [name for name in names if name not in {"self", "cls"}]
    if len(parameters) > MAX_PARAMETERS:
        yield f"{node.lineno}: {node.name} has {len(parameters)} parameters, at most {MAX_PARAMETERS}"


def _of_class(node: ast.ClassDef) -> Iterator[str]:
    methods = sum(isinstance(item, Function) for item in node.body)
    if methods > MAX_METHODS:
        yield f"{node.lineno}: {node.name} has {methods} methods, at most {MAX_METHODS}"
    if node.name.endswith(BANNED_ENDINGS):
        yield f"{node.lineno}: {node.name}: name it after what it is"


def _is_broad(handler: ast.ExceptHandler) -> bool:
    caught = handler.type
    kinds = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(kind is None or (isinstance(kind, ast.Name) and kind.id in BROAD) for kind in kinds)


def _is_heard_of(handler: ast.ExceptHandler) -> bool:
    """Whether the handler raises, or does something with the exception."""
    inside = [node for statement in handler.body for node in ast.walk(statement)]
    if any(isinstance(node, ast.Raise) for node in inside):
        return True
    return handler.name is not None and any(isinstance(node, ast.Name) and node.id == handler.name for node in inside)


def test_our_code_is_tidy() -> None:
    """All offenders at once, as `file:line: what`."""
    found = [f"{path.relative_to(ROOT)}:{what}" for path in files() for what in problems(path.read_text("utf-8"))]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1\n" * 401, "401 lines"),
        ("def f():\n" + "    x = 1\n" * 60, "f has 61 lines"),
        ("def f(a, b, c, d, *, e, f, g, h): pass", "8 parameters"),
        ("class A:\n" + "".join(f"    def m{n}(self): pass\n" for n in range(16)), "16 methods"),
        ("class ThingManager: pass", "ThingManager"),
        ("hasattr(x, 'y')", "hasattr"),
        ("try:\n    f()\nexcept Exception:\n    pass", "broad except"),
        ("try:\n    f()\nexcept:\n    pass", "broad except"),
        ("try:\n    f()\nexcept (OSError, Exception) as e:\n    g()", "broad except"),
    ],
)
def test_what_is_untidy_is_found(source: str, says: str) -> None:
    """Each rule has something that breaks it."""
    (problem,) = problems(source)
    assert says in problem


@pytest.mark.parametrize(
    "source",
    [
        "def f(self, a, b, c, d, e, f, g): pass",
        "try:\n    f()\nexcept OSError:\n    pass",
        "try:\n    f()\nexcept Exception:\n    raise ValueError from None",
        "try:\n    f()\nexcept Exception as error:\n    fail(error)",
    ],
)
def test_what_is_tidy_is_not(source: str) -> None:
    """The rules leave room for what they do not mean."""
    assert list(problems(source)) == []


def test_every_test_is_run() -> None:
    """A folder that `testpaths` forgets would never be."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    paths = [ROOT / path for path in options["testpaths"]]
    found = list((ROOT / "tests").rglob("test_*.py"))
    assert len(found) > 100
    assert [file for file in found if not any(file.is_relative_to(path) for path in paths)] == []
