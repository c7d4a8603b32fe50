"""The tools that are always there."""

from agents.tools.calculator import calculator
from agents.tools.current_time import current_time_tool
from agents.tools.declaration import Tool
from agents.tools.http_get import http_get_tool


def built_in_tools() -> tuple[Tool, ...]:
    return (calculator, current_time_tool(), http_get_tool())
