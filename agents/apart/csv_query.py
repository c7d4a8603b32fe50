"""SQL over a CSV text: a table in memory, which nothing but reading is allowed on."""

import csv
import io
import re
import sqlite3
from collections.abc import Iterable, Sequence

from agents.apart.refused import RefusedError

TABLE = "data"
MAX_ROWS = 100_000
MAX_COLUMNS = 200
MAX_RESULT_ROWS = 1_000
MAX_RESULT_CHARS = 100_000
MAX_VALUE_BYTES = 1_000_000
DELIMITERS = (",", ";", "\t", "|")

_READS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})(\.\d{1,17})?([eE][-+]?\d{1,2})?")
"""Without leading zeros and without more digits than are kept: postal codes and long identifiers stay text."""
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: MAX_VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 10_000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 0,
}


def compute(text: str, sql: str) -> str:
    """The rows of the answer as CSV, its first line their names."""
    header, rows = _read(text)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        _fill(connection, header, rows)
        for limit, value in _LIMITS.items():
            connection.setlimit(limit, value)
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.set_authorizer(_authorize)
        return _answer(connection, sql, header)
    finally:
        connection.close()


def _read(text: str) -> tuple[list[str], list[list[str]]]:
    text = text.removeprefix("\ufeff").lstrip("\r\n")
    first = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row]
    except csv.Error as error:
        raise RefusedError(f"expected CSV with a line of column names: {error}") from None
    if not rows:
        raise RefusedError("expected CSV with a line of column names, got an empty text")
    header, *lines = rows
    if len(header) > MAX_COLUMNS or len(lines) > MAX_ROWS:
        raise RefusedError(
            f"expected at most {MAX_COLUMNS} columns and {MAX_ROWS:,} rows, got {len(header):,} and {len(lines):,}"
        )
    for number, line in enumerate(lines, start=2):
        if len(line) > len(header):
            raise RefusedError(
                f"expected {len(header)} values in row {number}, as in the line of names, got {len(line)}: quote "
                f"values that contain the delimiter {delimiter!r}"
            )
        line.extend([""] * (len(header) - len(line)))
    return _unique(header), lines


def _unique(header: Iterable[str]) -> list[str]:
    """Names that differ, also in more than case: SQL does not tell those apart."""
    names: list[str] = []
    taken: set[str] = set()
    for number, cell in enumerate(header, start=1):
        stem = cell.strip().replace("\0", "")[:100] or f"column_{number}"
        name = stem
        suffix = 2
        while name.lower() in taken:
            name = f"{stem}_{suffix}"
            suffix += 1
        taken.add(name.lower())
        names.append(name)
    return names


def _fill(connection: sqlite3.Connection, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    numeric = [all(not row[i] or _NUMBER.fullmatch(row[i].strip()) for row in rows) for i in range(len(header))]
    columns = ", ".join(
        f"{_quoted(name)} {'NUMERIC' if number else 'TEXT'}" for name, number in zip(header, numeric, strict=True)
    )
    connection.execute(f"CREATE TABLE {TABLE} ({columns})")
    marks = ", ".join("?" * len(header))
    values = ([None if n and not v else v for v, n in zip(row, numeric, strict=True)] for row in rows)
    connection.execute("BEGIN")
    connection.executemany(f"INSERT INTO {TABLE} VALUES ({marks})", values)  # noqa: S608 - question marks
    connection.execute("COMMIT")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _authorize(action: int, *_: str | None) -> int:
    return sqlite3.SQLITE_OK if action in _READS else sqlite3.SQLITE_DENY


def _answer(connection: sqlite3.Connection, sql: str, header: Sequence[str]) -> str:
    try:
        cursor = connection.execute(sql)
        if cursor.description is None:
            raise RefusedError("expected a SELECT statement, got one without rows")
        return _written([column[0] for column in cursor.description], cursor)
    except (sqlite3.Error, sqlite3.Warning) as error:
        known = ", ".join(_quoted(name) for name in header)
        raise RefusedError(
            f"expected one SELECT statement over the table {TABLE}, which may only read; SQLite says: {error}. "
            f"The columns are {known}"[:1_500]
        ) from None


def _written(names: list[str], rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for count, row in enumerate(rows):
        if count >= MAX_RESULT_ROWS or out.tell() > MAX_RESULT_CHARS:
            return f"{out.getvalue()}[cut after {count:,} rows: aggregate, or add LIMIT and OFFSET]"
        writer.writerow([value.hex() if isinstance(value, bytes) else value for value in row])
    return out.getvalue()
