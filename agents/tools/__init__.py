"""Tools: declaring them (`@tool`), running them (`Toolbox`), and those that are always there."""

from agents.tools.built_in import built_in_tools
from agents.tools.declaration import Tool, tool
from agents.tools.loading import ToolsNotLoadedError, load_tools
from agents.tools.port import (
    ToolContext,
    ToolDeclarationError,
    ToolDefinition,
    ToolError,
    ToolFault,
    ToolOutcome,
    ToolReturn,
)
from agents.tools.toolbox import Toolbox

__all__ = [
    "Tool",
    "ToolContext",
    "ToolDeclarationError",
    "ToolDefinition",
    "ToolError",
    "ToolFault",
    "ToolOutcome",
    "ToolReturn",
    "Toolbox",
    "ToolsNotLoadedError",
    "built_in_tools",
    "load_tools",
    "tool",
]
