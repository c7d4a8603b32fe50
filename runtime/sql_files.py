"""SQL by the names of its files."""

from collections.abc import Callable
from functools import cache
from pathlib import Path


def sql_loader(folder: Path) -> Callable[[str], str]:
    """A function that gives the text of `<folder>/<name>.sql`; each is read once."""

    @cache
    def sql(name: str) -> str:
        return (folder / f"{name}.sql").read_text(encoding="utf-8")

    return sql
