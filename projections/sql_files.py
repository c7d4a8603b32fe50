"""The SQL of the projections, by the names of its files."""

from pathlib import Path

from runtime.sql_files import sql_loader

FOLDER = Path(__file__).parent / "sql"

sql = sql_loader(FOLDER)
