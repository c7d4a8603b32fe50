"""The tools that are always there."""

from agents.tools.apart import Apart
from agents.tools.calculator import calculator
from agents.tools.configuration import ToolConfiguration
from agents.tools.csv_query import csv_query_tool
from agents.tools.current_time import current_time_tool
from agents.tools.declaration import Tool
from agents.tools.file_tools import file_tools
from agents.tools.http_get import http_get_tool
from agents.tools.http_request import http_request_tool
from agents.tools.json_query import json_query_tool
from agents.tools.notes import note_tools
from agents.tools.postgres_notes import PostgresNotes
from agents.tools.regex_extract import regex_extract_tool
from agents.tools.sql_query import sql_query_tool
from agents.tools.text_diff import text_diff_tool
from agents.tools.web_page_text import web_page_text_tool


def built_in_tools(configuration: ToolConfiguration | None = None) -> tuple[Tool, ...]:
    """All of them, whatever is configured; one whose configuration is missing says so (`Tool.missing`)."""
    given = configuration or ToolConfiguration()
    apart = Apart()
    return (
        calculator,
        current_time_tool(),
        http_get_tool(),
        web_page_text_tool(apart),
        http_request_tool(given.http),
        json_query_tool(apart),
        csv_query_tool(apart),
        text_diff_tool(apart),
        regex_extract_tool(),
        *file_tools(given.files_dir, given.file_limits),
        sql_query_tool(given.databases),
        *note_tools(PostgresNotes(given.notes) if given.notes is not None else None),
    )
