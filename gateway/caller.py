"""Who calls, and what they may do. A tenant's sessions are known by their ids alone: `{tenant}:…`."""

from msgspec import Struct

from gateway.problems import Code, Problem
from gateway.scopes import Scope

__all__ = ["ANYONE", "Caller", "Scope"]


class Caller(Struct, frozen=True):
    """Whoever a key was given to; an operator's belongs to no tenant. `key_id` is None where no key is needed."""

    key_id: str | None
    name: str
    tenant: str | None
    scopes: frozenset[Scope]

    @property
    def is_operator(self) -> bool:
        return self.tenant is None

    @property
    def session_prefix(self) -> str:
        """What the ids of the caller's sessions begin with."""
        return "" if self.tenant is None else f"{self.tenant}:"

    def require(self, scope: Scope) -> None:
        """Raise `Problem(wrong_scope)` where the key does not have it."""
        if scope not in self.scopes:
            has = ", ".join(sorted(self.scopes)) or "none"
            raise Problem(Code.WRONG_SCOPE, f"expected a key with the scope {scope}, got one with {has}")

    def require_session(self, session_id: str) -> str:
        """The id, where the caller may address it; looks at nothing but the id.

        Raises:
            Problem: `wrong_tenant`, whether or not there is such a session.
        """
        if not session_id.startswith(self.session_prefix):
            raise Problem(
                Code.WRONG_TENANT,
                f"expected the id of a session to begin with `{self.session_prefix}`, as all of your tenant's do",
            )
        return session_id

    def require_operator(self) -> None:
        """Raise `Problem(operators_only)` for a tenant's key."""
        if not self.is_operator:
            raise Problem(Code.OPERATORS_ONLY, "expected an operator's key, got a tenant's: this is about all tenants")


ANYONE = Caller(None, "anyone on this machine", None, frozenset(Scope))
"""The caller where the gateway is open: it is so on a loopback address only."""
