"""Writes the documents that are derived from the code; with `--check`, says which are stale."""

import ast
import inspect
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import msgspec
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from docs.asyncapi import asyncapi_yaml
from docs.topics_page import kept, topics_page
from gateway.metrics import Metrics
from gateway.openapi import document
from gateway.problems import PROBLEMS
from gateway.route import Route
from gateway.routes import ROUTES
from runtime.settings import Settings
from schemas.topics import TOPICS
from streams.topology import mermaid

ROOT = Path(__file__).parents[1]
SDK_SETTINGS = ("anthropic_api_key", "anthropic_base_url")

SETTINGS_HEAD = """# Settings

Every process reads them from, in rising order: `headrace.toml` in the folder where it starts (or the file that
`--config` or `HEADRACE_CONFIG` names), the environment, and options of the command. A wrong one is refused at the
start, by name and origin. In the file, a setting with a dot belongs into a table: `[model]` with `attempts = 3`.

| setting | environment | default | meaning |
|---|---|---|---|
"""


def between(text: str, name: str, content: str) -> str:
    """The text with new content between its markers `<!-- name -->` and `<!-- /name -->`."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if begin not in text or end not in text:
        raise ValueError(f"expected the markers {begin.strip()} and {end}: put them where the part belongs")
    head, rest = text.split(begin, 1)
    return head + begin + content + end + rest.split(end, 1)[1]


def readme(old: str) -> str:
    """The README with its picture and its table of topics."""
    with_flow = between(old, "flow", f"```mermaid\n{mermaid()}```\n")
    return between(with_flow, "topics", topics_table())


def topics_table() -> str:
    """The topics, one row each, in the order of their table."""
    rows = [f"| `{t.name}` | {t.access} | {t.key} | {kept(t)} | {t.description} |" for t in TOPICS]
    return "\n".join(["| topic | access | key | kept | carries |", "|---|---|---|---|---|", *rows]) + "\n"


def settings_document(old: str) -> str:
    """All settings as a table."""
    del old
    return SETTINGS_HEAD + "".join(f"{row}\n" for row in _settings_rows(Settings, ()))


def _settings_rows(model: type[BaseModel], group: tuple[str, ...]) -> Iterator[str]:
    meanings = _attribute_docstrings(model)
    for name, field in model.model_fields.items():
        location = (*group, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _settings_rows(field.annotation, location)
            continue
        joined = "_".join(location).upper()
        variable = joined if name in SDK_SETTINGS else f"HEADRACE_{joined}"
        yield f"| `{'.'.join(location)}` | `{variable}` | {_default(field)} | {meanings.get(name, '')} |"


def _attribute_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The string below each attribute, on one line."""
    body = ast.parse(inspect.getsource(model)).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for above, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(above, ast.AnnAssign) and isinstance(above.target, ast.Name) and isinstance(below, ast.Expr):
            found[above.target.id] = " ".join(ast.literal_eval(below.value).split())
    return found


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "`~/.local/share/headrace`"
    assert field.default is not PydanticUndefined
    default: Any = field.default
    if default is None or default in ((), "", {}):
        return ""
    shown = str(default).lower() if isinstance(default, bool) else str(default)
    options = [str(option) for option in get_args(field.annotation) if not isinstance(option, type | UnionType)]
    others = [option for option in options if option != shown and option.isidentifier()]
    return f"`{shown}`" + (f" (or {', '.join(f'`{other}`' for other in others)})" if others else "")


def openapi_json() -> str:
    """What the gateway answers at /openapi.json, with line breaks."""
    return msgspec.json.format(msgspec.json.encode(document(ROUTES)), indent=1).decode() + "\n"


def gateway_document(old: str) -> str:
    """The page about the gateway with its tables of endpoints, problems and metrics."""
    endpoints = ["| endpoint | scope | |", "|---|---|---|"]
    endpoints += [f"| `{r.method} {r.path}` | {_scope(r)} | {r.summary} |" for r in ROUTES]
    problems = ["| status | `code` | meaning | what to do |", "|---|---|---|---|"]
    problems += [f"| {kind.status} | `{code}` | {kind.title} | {kind.remedy} |" for code, kind in PROBLEMS.items()]
    metrics = ["| metric | labels | meaning |", "|---|---|---|"]
    metrics += [f"| `{m.name}` | {', '.join(m.labels)} | {m.meaning} |" for m in Metrics().described()]
    new = between(old, "endpoints", "\n".join(endpoints) + "\n")
    new = between(new, "problems", "\n".join(problems) + "\n")
    return between(new, "metrics", "\n".join(metrics) + "\n")


def _scope(route: Route) -> str:
    if not route.needs_key:
        return "no key"
    return "any key" if route.scope is None else f"`{route.scope}`"


def package_version() -> str:
    """As it is written down: what is installed may be older."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


DOCUMENTS: dict[Path, Callable[[str], str]] = {
    ROOT / "README.md": readme,
    ROOT / "docs/settings.md": settings_document,
    ROOT / "docs/asyncapi.yaml": lambda _: asyncapi_yaml(package_version()),
    ROOT / "docs/openapi.json": lambda _: openapi_json(),
    ROOT / "docs/gateway.md": gateway_document,
    ROOT / "docs/topics.md": lambda _: topics_page(),
}
"""Each document, and what makes its new text of its old one."""


def stale() -> dict[Path, str]:
    """The documents that differ from what they must be, with their new text."""
    texts = {path: path.read_text(encoding="utf-8") if path.exists() else "" for path in DOCUMENTS}
    return {path: new for path, make in DOCUMENTS.items() if (new := make(texts[path])) != texts[path]}


def main() -> int:
    """Write what is stale; with `--check`, only say so."""
    check = "--check" in sys.argv[1:]
    changed = stale()
    for path, text in changed.items():
        if check:
            print(f"{path.relative_to(ROOT)} is stale: run `make docs`")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return int(check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
