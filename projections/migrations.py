"""Numbered migrations: `sql/migrations/NNNN_name.sql`, applied in order, each once and in a transaction of its own."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from projections.database import connected, store_errors
from projections.errors import (
    ChangedMigrationError,
    MigrateFirstError,
    MigrationFailedError,
    StoreUnavailableError,
    UpgradeHeadraceError,
)
from projections.sql_files import FOLDER, sql

LOCK = 4_847_201_391
"""Any number that nobody else takes: who holds this advisory lock migrates, and the others wait."""
_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+$")


class Migration(Struct, frozen=True):
    """One file; its checksum does not depend on the kind of line ends that a checkout has."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.replace("\r\n", "\n").encode()).hexdigest()


def read_migrations(folder: Path = FOLDER / "migrations") -> tuple[Migration, ...]:
    """All migrations of the folder in their order; they count from 1 without a gap."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.match(path.stem)
        assert match is not None, f"{path.name}: expected NNNN_name.sql"
        found.append(Migration(int(match[1]), path.stem, path.read_text(encoding="utf-8")))
    numbers = [migration.number for migration in found]
    assert numbers == list(range(1, len(found) + 1)), f"{folder}: expected numbers from 0001 without a gap: {numbers}"
    return tuple(found)


async def migrate(url: str, migrations: Sequence[Migration] | None = None) -> list[str]:
    """Apply what is missing; gives the names of what was applied. May run at the same time in several places.

    Raises:
        ChangedMigrationError: an applied one was changed since; nothing was applied.
        UpgradeHeadraceError: the database has migrations that this Headrace does not know.
        MigrationFailedError: one failed; those before it are applied.
        StoreUnavailableError: the database does not answer.
    """
    wanted = read_migrations() if migrations is None else migrations
    async with connected(url) as connection:
        with store_errors():
            await connection.execute(sql("lock"), LOCK)
            await connection.execute(sql("create_migrations"))
            missing = await _missing(connection, wanted)
        for migration in missing:
            await _apply(connection, migration)
    return [migration.name for migration in missing]


async def _apply(connection: Any, migration: Migration) -> None:
    try:
        with store_errors():
            async with connection.transaction():
                await connection.execute(migration.text)
                await connection.execute(sql("insert_migration"), migration.number, migration.name, migration.checksum)
    except StoreUnavailableError as error:
        raise MigrationFailedError(f"{migration.name} failed, and nothing of it was applied: {error}") from error


async def require_migrated(url: str) -> None:
    """Return where the database is as this Headrace needs it.

    Raises:
        MigrateFirstError: a migration is missing.
        ChangedMigrationError, UpgradeHeadraceError, StoreUnavailableError: as for `migrate`.
    """
    async with connected(url) as connection:
        with store_errors():
            begun = await connection.fetchval(sql("has_migrations"))
            wanted = read_migrations()
            missing = await _missing(connection, wanted) if begun else list(wanted)
    if missing:
        raise MigrateFirstError(f"the database lacks {missing[0].name}: run `headrace migrate`")


async def _missing(connection: Any, wanted: Sequence[Migration]) -> list[Migration]:
    applied = {row["number"]: row for row in await connection.fetch(sql("applied_migrations"))}
    for migration in wanted:
        row = applied.get(migration.number)
        if row is not None and (row["name"], row["checksum"]) != (migration.name, migration.checksum):
            raise ChangedMigrationError(
                f"migration {migration.name} was applied at {row['applied_at']:%Y-%m-%d %H:%M} as {row['name']} with "
                "another text: give it that text back, and write a new migration for the change"
            )
    unknown = sorted(set(applied) - {migration.number for migration in wanted})
    if unknown:
        newest = applied[unknown[-1]]["name"]
        raise UpgradeHeadraceError(f"the database has {newest}, which this Headrace does not know: upgrade Headrace")
    return [migration for migration in wanted if migration.number not in applied]
