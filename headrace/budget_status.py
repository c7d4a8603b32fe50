"""What is left of each shared budget today, from Redis."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from agents.accounts import UNITS
from agents.shared_budgets import OPEN_PREFIX, SPENT_PREFIX, SharedBudget
from headrace.errors import HeadraceError
from runtime.settings import Settings
from runtime.stores import redis_prefix, redis_url

TIMEOUT_S = 5.0
FIELDS = (*UNITS, *(f"ended {unit}" for unit in UNITS))


class AccountStatus(Struct, frozen=True, kw_only=True):
    """One limit of one account: `spent` by calls that have ended, and `reserved` for those under way."""

    account: str
    unit: str
    limit: int
    spent: int
    reserved: int
    left: int


async def budget_status(settings: Settings, budgets: Iterable[SharedBudget]) -> list[AccountStatus]:
    """Every limit of every account that a call of today counts in.

    Raises:
        SetStoreError: no Redis is set. HeadraceError: it does not answer.
    """
    client: Any = Redis.from_url(
        redis_url(settings), socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S, decode_responses=True
    )
    try:
        return [row for budget in budgets for row in await _rows(client, redis_prefix(settings), budget)]
    except (RedisError, OSError) as error:
        raise HeadraceError(f"Redis does not answer ({error}): start it, or correct HEADRACE_REDIS") from None
    finally:
        await client.aclose()


async def _rows(client: Any, root: str, budget: SharedBudget) -> list[AccountStatus]:
    today = f"{budget.name}/{datetime.now(UTC).date().isoformat()}"
    accounts: set[str] = set()
    for prefix in (SPENT_PREFIX, OPEN_PREFIX):
        async for key in client.scan_iter(match=f"{root}{prefix}{today}*", count=1_000):
            accounts.add(key.removeprefix(root + prefix))
    rows = []
    for account in sorted(accounts):
        spent = await client.hmget(f"{root}{SPENT_PREFIX}{account}", *UNITS)
        found = await client.hmget(f"{root}{OPEN_PREFIX}{account}", *FIELDS)
        for index, (unit, limit) in enumerate(zip(UNITS, budget.limits, strict=True)):
            if limit is not None:
                took = int(spent[index] or 0) + int(found[len(UNITS) + index] or 0)
                reserved = int(found[index] or 0)
                left = max(0, limit - took - reserved)
                rows.append(
                    AccountStatus(account=account, unit=unit, limit=limit, spent=took, reserved=reserved, left=left)
                )
    return rows
