"""What `headrace agents` works with: the agents that are applied, and those that are announced."""

from headrace.directory.errors import CorrectAgentsError, NoSuchAgentError
from headrace.directory.plan import Change, Plan, plan_apply, plan_remove
from headrace.directory.reading import Known, SpecEntry, read_known
from headrace.directory.write import carry_out

__all__ = [
    "Change",
    "CorrectAgentsError",
    "Known",
    "NoSuchAgentError",
    "Plan",
    "SpecEntry",
    "carry_out",
    "plan_apply",
    "plan_remove",
    "read_known",
]
