"""How much of a database one query may take."""

from msgspec import Struct


class SqlLimits(Struct, frozen=True, kw_only=True):
    connections: int = 4  # To one database from one worker; further calls wait.
    connect_s: float = 5.0
    statement_s: float = 10.0
    total_s: float = 15.0
    max_rows: int = 500
    max_row_chars: int = 10_000  # The rest of a longer row is cut off in the database.
    max_chars: int = 100_000
