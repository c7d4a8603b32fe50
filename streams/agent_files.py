"""Reads the agents and tools that the settings name."""

from agents.directory import Directory
from agents.tools import Toolbox, built_in_tools, load_tools
from agents.tools.find_agents import find_agents_tool
from runtime.agent_files import read_catalog
from runtime.settings import Settings

__all__ = ["read_catalog", "read_toolbox"]


def read_toolbox(settings: Settings, directory: Directory | None = None) -> Toolbox:
    """The built-in tools and those of the settings' modules; `find_agents` looks into `directory`.

    Raises:
        ToolsNotLoadedError: a module cannot be imported or has no tools; ValueError: two tools have one name.
    """
    loaded = [tool for reference in settings.tools for tool in load_tools(reference).tools]
    return Toolbox([*built_in_tools(), find_agents_tool(directory or Directory()), *loaded])
