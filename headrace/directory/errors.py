"""What can go wrong with agents that are applied, named by what to do."""

from headrace.errors import HeadraceError


class CorrectAgentsError(HeadraceError):
    """The agents cannot be applied as they are declared. Nothing was written; correct them."""


class NoSuchAgentError(HeadraceError):
    """An agent that was named is neither applied nor served. Nothing was written."""
