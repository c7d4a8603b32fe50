"""Reads the agents and tools that the settings name."""

from agents.directory import Directory
from agents.tools import Toolbox, built_in_tools, load_tools
from agents.tools.configuration import ToolConfiguration
from agents.tools.find_agents import find_agents_tool
from agents.tools.http_hosts import HttpHosts
from agents.tools.secret import Secret
from agents.tools.session_files import FileLimits
from runtime.agent_files import read_catalog
from runtime.settings import Settings

__all__ = ["read_catalog", "read_toolbox"]


def read_toolbox(settings: Settings, directory: Directory | None = None) -> Toolbox:
    """The built-in tools and those of the settings' modules; `find_agents` looks into `directory`.

    Raises:
        ToolsNotLoadedError: a module cannot be imported or has no tools; ValueError: two tools have one name.
    """
    loaded = [tool for reference in settings.tools for tool in load_tools(reference).tools]
    return Toolbox([*built_in_tools(_configuration(settings)), find_agents_tool(directory or Directory()), *loaded])


def _configuration(settings: Settings) -> ToolConfiguration:
    given = settings.toolbox
    return ToolConfiguration(
        files_dir=given.files_dir,
        file_limits=FileLimits(
            max_file_bytes=given.file_bytes, max_files=given.files_per_session, max_bytes=given.files_bytes_per_session
        ),
        http=HttpHosts(
            public=frozenset(given.http_hosts),
            private=frozenset(given.http_private_hosts),
            headers={
                host: {name: Secret(value.get_secret_value()) for name, value in headers.items()}
                for host, headers in given.http_headers.items()
            },
        ),
        databases={name: Secret(url.get_secret_value()) for name, url in given.sql_databases.items()},
        notes=Secret(settings.postgres.get_secret_value()) if settings.postgres is not None else None,
    )
