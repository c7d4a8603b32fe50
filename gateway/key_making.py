"""Makes keys, lists them, and ends them: what `headrace keys` does in the table `api_keys`."""

import re
import secrets
from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256

from msgspec import Struct

from gateway.caller import Scope
from gateway.database import Database

TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
ID_BYTES = 8
SECRET_BYTES = 32


class ListedKey(Struct, frozen=True, kw_only=True):
    """A key as an operator sees it; times in UTC."""

    id: str
    name: str
    tenant: str | None
    scopes: tuple[str, ...]
    requests_per_second: float | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class NewKey(Struct, frozen=True, kw_only=True):
    """What a new key is to be; `requests_per_second` None: the gateway's setting."""

    name: str
    tenant: str | None
    scopes: Iterable[Scope]
    requests_per_second: float | None = None
    expires_at: datetime | None = None


async def create_key(database: Database, new: NewKey) -> tuple[str, str]:
    """Its id and the key itself, which is nowhere else and cannot be shown again.

    Raises:
        ValueError: the tenant's name is not one. Problem: the database does not answer.
    """
    if new.tenant is not None and not TENANT.fullmatch(new.tenant):
        raise ValueError("expected a tenant of 1 to 63 lower case letters, digits, `_` and `-`")
    key_id, secret = secrets.token_hex(ID_BYTES), secrets.token_hex(SECRET_BYTES)
    digest = sha256(secret.encode()).digest()
    scopes = sorted(set(new.scopes))
    rate, expires_at = new.requests_per_second, new.expires_at
    await database.execute("insert_key", key_id, digest, new.name, new.tenant, scopes, rate, expires_at)
    return key_id, f"hr_{key_id}_{secret}"


async def list_keys(database: Database) -> list[ListedKey]:
    """All keys, the newest first; raises `Problem` where the database does not answer."""
    return [ListedKey(**{**row, "scopes": tuple(row["scopes"])}) for row in await database.fetch("list_keys")]


async def revoke_key(database: Database, id: str) -> str | None:
    """End a key, whose tenant is given; gateways take it for some seconds more.

    Raises:
        LookupError: there is no such key. Problem: the database does not answer.
    """
    row = await database.fetchrow("revoke_key", id)
    if row is None:
        raise LookupError(f"no key has the id {id}")
    tenant: str | None = row["tenant"]
    return tenant
