"""Counts what shared budgets have spent and reserved in Redis: one batch at a time, in a short time or not at all."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any

import structlog
from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from agents.shared_budgets import OPEN_PREFIX, SPENT_PREFIX, Amounts, Charge, expires_ms
from streams.shared_counter import Answer, CounterUnavailableError, Refused, Reservation, Stand

FOLDER = Path(__file__).parent / "lua"
PATIENCE_S = 0.25
"""For an answer. Redis gives one in less than a millisecond; one that forks to save itself, in some tens of them."""
RETRY_S = 1.0
"""While Redis is away, it is not asked at each call."""
MAX_BATCH = 200
"""Calls that are asked for at once: a hundredth of a second of work for Redis."""
CLOSE_S = 1.0

log = structlog.get_logger(__name__)


class _Script:
    def __init__(self, name: str) -> None:
        self.text = (FOLDER / f"{name}.lua").read_text(encoding="utf-8")
        self.digest = sha1(self.text.encode(), usedforsecurity=False).hexdigest()


RESERVE, CORRECT = _Script("reserve"), _Script("correct")


class _Asked:
    """A call of a script; nobody waits for the answer where there is no future."""

    def __init__(
        self, script: _Script, keys: Sequence[str], arguments: Sequence[str | int], answer: "asyncio.Future[Any] | None"
    ) -> None:
        self.script = script
        self.keys = keys
        self.arguments = arguments
        self.answer = answer


class RedisCounter:
    """A connection to Redis; `prefix` is what its keys begin with."""

    def __init__(self, url: str, prefix: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._prefix = prefix
        self._clock = clock
        self._away_until = 0.0
        self._asked: deque[_Asked] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._redis: Any = Redis.from_url(
            url, socket_connect_timeout=PATIENCE_S, socket_timeout=PATIENCE_S, retry=Retry(NoBackoff(), 0)
        )

    async def reserve(self, wanted: Reservation) -> Answer:
        """See `SharedCounter`."""
        keys: list[str] = []
        arguments: list[str | int] = [wanted.call_id, wanted.kind]
        for charge, known in zip(wanted.charges, wanted.known, strict=True):
            keys += [f"{SPENT_PREFIX}{charge.account}", f"{OPEN_PREFIX}{charge.account}", OPEN_PREFIX + charge.before]
            arguments += [-1 if limit is None else limit for limit in charge.allowed]
            arguments += [charge.budget.reserve_micros, *known, expires_ms(charge.account)]
        if self._clock() < self._away_until:
            raise CounterUnavailableError("Redis did not answer a moment ago")
        answer = asyncio.get_running_loop().create_future()
        self._ask(_Asked(RESERVE, keys, arguments, answer))
        return _answer(await answer, wanted.charges)

    def correct(self, call_id: str, kind: str, accounts: Sequence[str], micros: int, tokens: int) -> None:
        """See `SharedCounter`."""
        self._tell(call_id, kind, accounts, micros, tokens)

    def give_up(self, call_id: str, accounts: Sequence[str]) -> None:
        """See `SharedCounter`."""
        self._tell(call_id, "", accounts, -1, -1)

    def _tell(self, call_id: str, kind: str, accounts: Sequence[str], micros: int, tokens: int) -> None:
        if self._clock() >= self._away_until:
            keys = [OPEN_PREFIX + account for account in accounts]
            ends = [expires_ms(account) for account in accounts]
            self._ask(_Asked(CORRECT, keys, [call_id, kind, micros, tokens, *ends], None))

    async def close(self) -> None:
        """See `SharedCounter`."""
        sending = self._sending
        if sending is not None:
            await asyncio.wait([sending], timeout=CLOSE_S)
            sending.cancel()
        await self._redis.aclose()

    def _ask(self, asked: _Asked) -> None:
        self._asked.append(asked)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        """Send what is asked for, batch after batch: what comes while one is under way goes with the next."""
        try:
            while self._asked:
                batch = [self._asked.popleft() for _ in range(min(MAX_BATCH, len(self._asked)))]
                await self._send_batch(batch)
        finally:
            self._sending = None

    async def _send_batch(self, batch: Sequence[_Asked]) -> None:
        try:
            async with asyncio.timeout(2 * PATIENCE_S):
                results = await self._make(batch)
                if any(isinstance(result, exceptions.NoScriptError) for result in results):
                    for script in (RESERVE, CORRECT):
                        await self._redis.script_load(script.text)
                    results = await self._make(batch)
        except Exception as error:  # noqa: BLE001  # Whatever it is: those who asked wait for an answer.
            self._fail(error, [*batch, *self._asked])
            self._asked.clear()
            return
        for asked, result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                self._fail(result, [asked])
            elif asked.answer is not None and not asked.answer.done():
                asked.answer.set_result(result)

    async def _make(self, batch: Sequence[_Asked]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for asked in batch:
                keys = [self._prefix + key for key in asked.keys]
                pipeline.evalsha(asked.script.digest, len(keys), *keys, *asked.arguments)
            return list(await pipeline.execute(raise_on_error=False))

    def _fail(self, error: Exception, asked: Sequence[_Asked]) -> None:
        log.warning("budgets_counted_locally", error=str(error) or type(error).__name__, retry_s=RETRY_S)
        self._away_until = self._clock() + RETRY_S
        for one in asked:
            if one.answer is not None and not one.answer.done():
                one.answer.set_exception(CounterUnavailableError(f"Redis: {error}"))


def _answer(found: Sequence[int], charges: Sequence[Charge]) -> Answer:
    number, unit, spent, reserved, *amounts = found
    triples: list[Amounts] = list(zip(amounts[::3], amounts[1::3], amounts[2::3], strict=True))
    stands = tuple(Stand(*triples[3 * index : 3 * index + 3]) for index in range(len(charges)))
    if not number:
        return Answer(None, stands)
    allowed = charges[number - 1].allowed[unit - 1] or 0
    is_for_now = spent + stands[number - 1].wanted[unit - 1] <= allowed
    return Answer(Refused(number - 1, unit - 1, spent, reserved, is_for_now=is_for_now), stands)
