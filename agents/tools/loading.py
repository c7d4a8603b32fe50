"""Tools of users: from a module or a file to a toolbox."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from agents.tools.declaration import Tool
from agents.tools.toolbox import Toolbox


class ToolsNotLoadedError(ValueError):
    """The module cannot be imported, or has no tools; the message says what to do."""


def load_tools(reference: str) -> Toolbox:
    """All tools in a module, given as `package.module` or as `path/to/file.py`.

    Raises:
        ToolsNotLoadedError: there is no such module, its import fails, or it has no tools, or two of one name.
    """
    module = _import_file(Path(reference)) if reference.endswith(".py") else _import_module(reference)
    tools = {id(value): value for value in vars(module).values() if isinstance(value, Tool)}
    if not tools:
        raise ToolsNotLoadedError(
            f"expected tools in `{reference}`, got a module without any: decorate an async function with `@tool` "
            "(from agents.tools import tool)"
        )
    try:
        return Toolbox(tools.values())
    except ValueError as error:
        raise ToolsNotLoadedError(f"tools of `{reference}`: {error}") from error


def _import_module(reference: str) -> ModuleType:
    if not all(part.isidentifier() for part in reference.split(".")):
        raise ToolsNotLoadedError(f"expected `package.module` or `path/to/file.py`, got `{reference}`")
    try:
        return importlib.import_module(reference)
    except ModuleNotFoundError as error:
        if error.name is not None and (reference == error.name or reference.startswith(f"{error.name}.")):
            raise ToolsNotLoadedError(
                f"there is no module `{reference}` on the import path: install its package, set PYTHONPATH, "
                "or give the file, as `path/to/file.py`"
            ) from error
        raise _import_failed(reference, error) from error
    except Exception as error:
        raise _import_failed(reference, error) from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ToolsNotLoadedError(f"there is no file `{path}` (looked in {Path.cwd()}): give the path of a Python file")
    spec = importlib.util.spec_from_file_location(f"headrace_tools_{path.stem}", path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Type hints of classes in the module are resolved through sys.modules.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise _import_failed(str(path), error) from error
    return module


def _import_failed(reference: str, error: Exception) -> ToolsNotLoadedError:
    return ToolsNotLoadedError(f"importing `{reference}` failed: {type(error).__name__}: {error}")
