"""What the operator says about the tools that are always there."""

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from agents.tools.http_hosts import HttpHosts
from agents.tools.secret import Secret
from agents.tools.session_files import FileLimits


class ToolConfiguration(Struct, frozen=True, kw_only=True):
    """Without what a tool needs, it is there all the same, and an agent that names it is refused."""

    files_dir: Path | None = None
    file_limits: FileLimits = FileLimits()
    http: HttpHosts = HttpHosts()
    databases: Mapping[str, Secret] = {}
    notes: Secret | None = None
    """The PostgreSQL URL of what `remember` keeps."""
