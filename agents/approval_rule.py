"""Which calls of a tool wait for people, for whom, and for how long."""

from typing import Annotated, Any

import jmespath
import msgspec
from jmespath.exceptions import JMESPathError
from msgspec import Struct

from schemas.ids import ShortText

WEEK_S = 7 * 24 * 3_600
"""As long as `user-messages` keeps a decision."""


class ApprovalRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`when` is a JMESPath expression over the call's arguments: where it holds, the call waits; without one, always.

    `approvals` different people must approve, of `approvers` where those are named. One denial denies.
    """

    when: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)] | None = None
    approvals: Annotated[int, msgspec.Meta(ge=1, le=20)] = 1
    approvers: tuple[ShortText, ...] = ()
    expires_seconds: Annotated[int, msgspec.Meta(ge=1)] = WEEK_S

    def __post_init__(self) -> None:
        if self.when is not None:
            try:
                jmespath.compile(self.when)
            except JMESPathError as error:
                raise ValueError(f"expected a JMESPath expression in `when`, got `{self.when}`: {error}") from None
        if self.approvers and len(set(self.approvers)) < self.approvals:
            raise ValueError(
                f"expected at least {self.approvals} different `approvers`, got {list(self.approvers)}: "
                "name more of them, or need fewer `approvals`"
            )

    def applies_to(self, arguments: dict[str, Any]) -> bool:
        """Whether a call with these arguments waits. One that the expression cannot judge does."""
        if self.when is None:
            return True
        try:
            found = jmespath.search(self.when, arguments)
        except (JMESPathError, TypeError, ValueError):
            return True
        # What JMESPath calls false: nothing, and what is empty.
        return found is not False and found is not None and found not in ("", [], {})
