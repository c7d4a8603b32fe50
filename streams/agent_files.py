"""Reads the agents and tools that the settings name."""

from agents.tools import Toolbox, built_in_tools, load_tools
from runtime.agent_files import read_catalog
from runtime.settings import Settings

__all__ = ["read_catalog", "read_toolbox"]


def read_toolbox(settings: Settings) -> Toolbox:
    """The built-in tools and those of the settings' modules.

    Raises:
        ToolsNotLoadedError: a module cannot be imported or has no tools; ValueError: two tools have one name.
    """
    loaded = [tool for reference in settings.tools for tool in load_tools(reference).tools]
    return Toolbox([*built_in_tools(), *loaded])
