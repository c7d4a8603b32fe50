"""API keys: `hr_<id>_<secret>`. The database has only a digest of the secret, which is 256 random bits."""

import asyncio
import hmac
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from msgspec import Struct

from gateway.caller import Caller, Scope
from gateway.database import Database
from gateway.problems import Code, Problem

CACHED_S = 5.0
"""As long as a revoked key may still be taken."""
MAX_CACHED = 10_000
"""Ids that were asked for in the last seconds, right or wrong: 1 KB each."""
TOKEN = re.compile(r"hr_([0-9a-f]{16})_([0-9a-f]{64})")


class Key(Struct, frozen=True):
    """A key that is valid: who it was given to, and its rate, where it has one of its own."""

    caller: Caller
    requests_per_second: float | None


class Keys:
    """Looks keys up. All keys of all tenants are in the table `api_keys`, which `headrace keys` writes."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = database
        self._clock = clock
        self._cached: dict[str, tuple[float, asyncio.Task[Any]]] = {}
        self._used: dict[str, datetime] = {}

    async def authenticate(self, token: str) -> Key:
        """The key that the token is.

        Raises:
            Problem: `unauthenticated`: no such key, revoked or expired; which of them is not said. `unavailable`.
        """
        match = TOKEN.fullmatch(token)
        row = None if match is None else await self._row(match[1])
        # The digest is compared also where there is no such key, so that the time tells nothing.
        digest = sha256((match[2] if match else "").encode()).digest()
        is_right = hmac.compare_digest(digest, bytes(32) if row is None else row["secret_sha256"])
        if row is None or not is_right or not self._is_in_force(row):
            raise unauthenticated("expected a key that is valid, got one that is not, or not any more")
        self._used[row["id"]] = self._clock()
        scopes = frozenset(Scope(scope) for scope in row["scopes"] if scope in frozenset(Scope))
        return Key(Caller(row["id"], row["name"], row["tenant"], scopes), row["requests_per_second"])

    async def is_valid(self, caller: Caller) -> bool:
        """Whether the key is still in force: ask every few seconds while a stream is open.

        A database that is away ends no stream: the key counts as valid until the database can say otherwise.
        """
        if caller.key_id is None:
            return True
        try:
            row = await self._row(caller.key_id)
        except Problem:
            return True
        return row is not None and self._is_in_force(row)

    async def write_uses(self) -> None:
        """Tell the database when keys were last used: called once a minute, not at each request."""
        used, self._used = self._used, {}
        if used:
            await self._database.execute("touch_keys", list(used), list(used.values()))

    def _is_in_force(self, row: Any) -> bool:
        expires_at = row["expires_at"]
        return row["revoked_at"] is None and (expires_at is None or self._clock() < expires_at)

    async def _row(self, key_id: str) -> Any:
        now = time.monotonic()
        until, asked = self._cached.get(key_id, (0.0, None))
        if asked is None or now >= until:
            if len(self._cached) >= MAX_CACHED:
                self._cached = {known: entry for known, entry in self._cached.items() if now < entry[0]}
            if len(self._cached) >= MAX_CACHED:
                self._cached.clear()
            # Everybody who asks for it meanwhile waits for the same answer.
            asked = asyncio.create_task(self._database.fetchrow("find_key", key_id))
            self._cached[key_id] = (now + CACHED_S, asked)
        try:
            return await asyncio.shield(asked)
        except Problem:
            self._cached.pop(key_id, None)
            raise


def unauthenticated(detail: str) -> Problem:
    """The problem that there is no valid key, with the header that goes with it."""
    return Problem(Code.UNAUTHENTICATED, detail, headers={"WWW-Authenticate": 'Bearer realm="headrace"'})
