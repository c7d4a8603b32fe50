"""One file per command: its options and its help. What takes long to import is imported when the command runs."""

from typing import Annotated

from cyclopts import Parameter

from headrace.context import Context

GlobalContext = Annotated[Context, Parameter(parse=False)]
"""A command's parameter `context`, given by the app and not on the command line."""
