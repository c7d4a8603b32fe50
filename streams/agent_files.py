"""Reads the agents, tools and shared budgets that the settings name."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from agents.directory import Directory
from agents.shared_budgets import BudgetsFileError, SharedBudget, parse_budgets
from agents.tools import Toolbox, built_in_tools, load_tools
from agents.tools.configuration import ToolConfiguration
from agents.tools.find_agents import find_agents_tool
from agents.tools.http_hosts import HttpHosts
from agents.tools.outside import OutsideTools, OutsideToolsError, parse_outside_tools
from agents.tools.secret import Secret
from agents.tools.session_files import FileLimits
from agents.tools.toolbox import ToolServer
from runtime.agent_files import read_catalog
from runtime.settings import Settings

__all__ = ["read_budgets", "read_catalog", "read_toolbox"]


def read_toolbox(
    settings: Settings, directory: Directory | None = None, environment: Mapping[str, str] | None = None
) -> Toolbox:
    """The built-in tools, those of the settings' modules, and those that others run.

    Args:
        settings: which modules and files.
        directory: what `find_agents` looks into.
        environment: where the variables are that MCP servers are given; without it, no MCP server can be reached.

    Raises:
        ToolsNotLoadedError: a module cannot be imported or has no tools; OutsideToolsError: the file of outside tools
            cannot be read, or needs a variable that is not set; ValueError: two tools have one name.
    """
    loaded = [tool for reference in settings.tools for tool in load_tools(reference).tools]
    outside = _read_outside_tools(settings.outside_tools)
    servers = _mcp_servers(outside, environment) if outside.mcp and environment is not None else ()
    ours = [*built_in_tools(_configuration(settings)), find_agents_tool(directory or Directory()), *loaded]
    return Toolbox(ours, remote=outside.remote.values(), servers=servers)


def read_budgets(path: Path | None) -> tuple[SharedBudget, ...]:
    """The shared budgets of a file.

    Raises:
        BudgetsFileError: it cannot be read, or does not declare budgets.
    """
    if path is None:
        return ()
    try:
        return parse_budgets(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise BudgetsFileError(f"{path}: cannot be read: {error}") from None


def _mcp_servers(outside: OutsideTools, environment: Mapping[str, str]) -> Iterable[ToolServer]:
    from agents.tools.mcp_server import McpServer  # Its library takes 0.8 s to import.

    return [McpServer(name, spec, environment) for name, spec in outside.mcp.items()]


def _read_outside_tools(path: Path | None) -> OutsideTools:
    if path is None:
        return OutsideTools()
    try:
        return parse_outside_tools(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise OutsideToolsError(f"{path}: cannot be read: {error}") from None


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
