"""Shared budgets over two real workers, a real Redis and the simulated model at real prices; `-s` prints overruns."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from chaos.cluster import Cluster, Worker
from gateway_fixture import projecting
from line import WAIT_S, Line, release, served_by
from pydantic import SecretStr
from redis.asyncio import Redis
from valkey_fixture import ValkeyServer, valkey_server

from agents.shared_budgets import parse_budgets
from headrace.budget_status import budget_status
from headrace.replay.begin import find_beginning
from headrace.replay.compare import compare
from headrace.replay.fold import fold
from headrace.replay.source import read_session
from projections.budgets import BUDGETS
from projections.rebuild_redis import rebuild_keys
from runtime.settings import Settings

__all__ = ["valkey_server"]

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEN_CENTS = 100_000
NOTHING = {"micros": 0, "tokens": 0, "calls": 0}
RULES = "Answer in full, and name what each number stands for. " * 200
"""About 2,700 tokens, so that a call costs what calls of real agents do."""
AGENTS = f"""
[assistant]
instructions = "{RULES}"
model = "claude-sonnet-5-5"
tools = ["calculator"]
limits = {{ model_calls_per_turn = 5000, tool_calls_per_turn = 5000, tokens_per_turn = 1000000000 }}
"""
LOOP = '[[tool-loop:calculator {"expression": "1+2"}]] Go on for ever.'
SESSIONS = 8
PATIENCE = '''
"""The worker waits for an answer of Redis for 20 s instead of a quarter of one."""
import streams.redis_counter
from agents.tools import tool

streams.redis_counter.PATIENCE_S = 20.0


@tool
async def nothing() -> str:
    """Does nothing."""
    return ""
'''


@dataclass
class Stage:
    """Two workers with their budgets, and what their topics and their Redis hold."""

    cluster: Cluster
    line: Line
    workers: list[Worker]
    settings: Settings
    valkey: ValkeyServer

    def outcomes(self) -> list[dict[str, Any]]:
        return [fact for fact in self.line.bodies("session-log") if fact["type"] in {"model_completed", "model_failed"}]

    def refusals(self) -> list[dict[str, Any]]:
        return [fact for fact in self.line.bodies("session-log") if fact["type"] == "spending_refused"]

    @property
    def spent(self) -> int:
        return sum(fact.get("cost_micros", 0) for fact in self.outcomes())

    async def loop(self, text: str = LOOP) -> Sequence[dict[str, Any]]:
        """Let all sessions loop until they are stopped; their ends."""
        names = [f"loop{number}" for number in range(SESSIONS)]
        await asyncio.gather(*(self.line.say(name, text, id=name) for name in names))
        return await asyncio.gather(*(self.line.end(name, name) for name in names))

    async def account(self, kind: str, name: str, of: str = "") -> dict[str, int]:
        """The sums of an account of today; `of` says which ones where there are several."""
        client: Any = Redis.from_url(self.valkey.url, decode_responses=True)
        key = f"headrace:{self.settings.topic_prefix}{kind}:{name}"
        try:
            found = await client.hmget(key, f"{of}micros", f"{of}tokens", f"{of}calls")
        finally:
            await client.aclose()
        return dict(zip(("micros", "tokens", "calls"), (int(amount or 0) for amount in found), strict=True))

    async def until_open(self, expected: dict[str, int]) -> None:
        """Wait for what is reserved: a worker tells Redis how a call ended, and waits for no answer."""
        async with asyncio.timeout(WAIT_S):
            while await self.account("budget-open", today()) != expected:
                await asyncio.sleep(0.05)

    async def settled(self, name: str) -> dict[str, int]:
        """What the projection says was spent, once it has counted all that the log has."""
        async with asyncio.timeout(WAIT_S):
            while (found := await self.account("budget", name))["calls"] != len(self.outcomes()):
                await asyncio.sleep(0.05)
        return found


@contextlib.asynccontextmanager
async def stage(
    cluster: Cluster, valkey: ValkeyServer, folder: Path, budgets: str, workers: int = 2, *, is_patient: bool = True
) -> AsyncIterator[Stage]:
    """Workers with topics and keys of their own; patient ones never count locally because a machine is slow."""
    prefix = f"{folder.name}."
    (folder / "agents.toml").write_text(AGENTS)
    (folder / "budgets.toml").write_text(budgets)
    environment = {
        "HEADRACE_AGENTS": str(folder / "agents.toml"),
        "HEADRACE_BUDGETS": str(folder / "budgets.toml"),
        "HEADRACE_REDIS": valkey.url,
    }
    if is_patient:
        (folder / "patience.py").write_text(PATIENCE)
        environment["HEADRACE_TOOLS"] = str(folder / "patience.py")
    settings = Settings(
        brokers=cluster.kafka.bootstrap,
        topic_prefix=prefix,
        redis=SecretStr(valkey.url),
        data_dir=folder,
        agents=folder / "agents.toml",
    )
    async with served_by(cluster, prefix, workers, **environment) as (line, served):
        yield Stage(cluster, line, served, settings, valkey)


def today(budget: str = "house") -> str:
    return f"{budget}/{datetime.now(UTC).date().isoformat()}"


def house(reserve: int, limit: int = TEN_CENTS) -> str:
    return f'[house]\nscope = "all"\nday_micros = {limit}\nreserve_micros = {reserve}\n'


@pytest.mark.parametrize("reserve", [0, 10_000])
async def test_ten_cents_shared_by_sessions_that_loop_on_two_workers(
    cluster: Cluster, valkey_server: ValkeyServer, tmp_path: Path, reserve: int
) -> None:
    """Overrun by what calls under way were dearer than reserved: by nothing, where the reserve covers them.

    The projection counts what the log says, a rebuild too, and the log explains each refusal without Redis.
    """
    async with stage(cluster, valkey_server, tmp_path, house(reserve)) as world, projecting(world.settings, "budgets"):
        ends = await world.loop()
        assert {end["type"] for end in ends} == {"turn_failed"}
        assert {end["error"]["code"] for end in ends} == {"budget_exceeded"}
        costs = [fact["cost_micros"] for fact in world.outcomes()]
        overrun = world.spent - TEN_CENTS
        print(
            f"\n{SESSIONS} sessions, two workers, reserve {reserve}: {len(costs)} calls, {world.spent} spent, "
            f"overrun {overrun}, dearest {max(costs)}"
        )
        assert overrun <= (0 if reserve >= max(costs) else SESSIONS * max(costs))
        assert world.spent > TEN_CENTS - (SESSIONS + 1) * max(reserve, *costs), "it is used, too"
        assert not any(fact.get("local") for fact in world.refusals())
        found = await world.settled(today())
        assert found["micros"] == world.spent
        await world.until_open(NOTHING)
        rebuilt = await rebuild_keys(world.settings, BUDGETS, lambda _: None)
        assert [(kind.kind, kind.same, kind.changed) for kind in rebuilt.kinds] == [("budget", 1, 0)]
        for session in ("loop0", "loop5"):
            recording = await read_session(world.settings, session)
            beginning = find_beginning(recording)
            moments = fold(recording, seed=beginning.seed, begin=beginning.offset)
            assert not compare(recording, moments, is_whole=True).differences


async def test_redis_is_killed_while_agents_loop(cluster: Cluster, valkey_server: ValkeyServer, tmp_path: Path) -> None:
    """Each worker goes on with its share of what was left; Redis comes back empty and is filled from the log."""
    limit, reserve = 2 * TEN_CENTS, 10_000
    async with (
        stage(cluster, valkey_server, tmp_path, house(reserve, limit), is_patient=False) as world,
        projecting(world.settings, "budgets"),
    ):
        await asyncio.gather(*(world.line.ask(f"loop{number}", "Hello") for number in range(SESSIONS)))
        started = (await cluster.model_totals())["started"]
        looping = asyncio.create_task(world.loop(f"[[hold:until Redis is dead]] {LOOP}"))
        while (await cluster.model_totals())["started"] < started + SESSIONS:
            assert not looping.done()
            await asyncio.sleep(0.02)
        await valkey_server.kill()
        at_kill = world.spent
        assert not world.refusals()
        await release(cluster, "until Redis is dead")
        ends = await looping
        alone = world.spent
        try:
            assert {end["error"]["code"] for end in ends} == {"budget_exceeded"}
            assert all(fact.get("local") for fact in world.refusals())
            print(f"\nRedis killed at {at_kill} of {limit}: {alone} spent, overrun {alone - limit}")
            # What each worker had not heard of when Redis died: what all calls under way took.
            assert alone <= limit + SESSIONS * reserve
            assert alone > at_kill + reserve, "they went on"
        finally:
            await valkey_server.start()
        found = await world.settled(today())
        assert found["micros"] == alone
        end = await world.line.ask("after", "One more?", id="after")
        assert world.refusals()[-1]["session_id"] == "after" or end["type"] == "turn_completed"
        assert world.spent <= limit + SESSIONS * reserve
        for worker in world.workers:
            assert any(line["event"] == "budgets_counted_locally" for line in worker.log())
            assert valkey_server._password not in worker.process.log_path.read_text()


async def test_a_worker_is_killed_between_reserve_and_outcome(
    cluster: Cluster, valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    """The call is made again under its id: it is reserved once, and counts once."""
    async with stage(cluster, valkey_server, tmp_path, house(10_000), workers=1) as world:
        await world.line.say("slow", "[[hold:slow]] Take your time.", id="m1")
        while "slow/1/1" not in await cluster.model_calls():
            await asyncio.sleep(0.02)
        assert (await world.account("budget-open", today()))["calls"] == 1
        await world.workers[0].kill()
        await world.workers[0].start()
        while (await cluster.model_calls())["slow/1/1"]["started"] < 2:
            await asyncio.sleep(0.02)
        assert await world.account("budget-open", today()) == {"micros": 10_000, "tokens": 0, "calls": 1}
        await release(cluster, "slow")
        end = await world.line.end("slow", "m1")
        assert end["type"] == "turn_completed"
        await world.until_open(NOTHING)
        assert (await world.account("budget-open", today(), "ended "))["calls"] == 1, "it is not counted yet"
        async with projecting(world.settings, "budgets"):
            assert await world.settled(today()) == {
                "micros": end["cost_micros"],
                "tokens": sum(end["usage"].values()),
                "calls": 1,
            }
        assert await world.account("budget-open", today(), "ended ") == NOTHING


async def test_people_and_cheaper_models(cluster: Cluster, valkey_server: ValkeyServer, tmp_path: Path) -> None:
    """Users have budgets of their own: one is asked about, the other one goes on with a cheaper model."""
    budgets = """
[ann]
scope = "user"
only = ["ann"]
day_calls = 1
on_breach = "ask"
approval = { approvers = ["boss"] }

[bob]
scope = "user"
only = ["bob"]
day_calls = 1
on_breach = "cheaper"
cheaper_model = "claude-haiku-5-5"
"""
    async with stage(cluster, valkey_server, tmp_path, budgets, workers=1) as world:
        line = world.line
        for user in ("ann", "bob", "cy"):
            assert (await line.ask(f"{user}-1", "Hello", id=f"{user}-1", user_id=user))["type"] == "turn_completed"
        await line.say("ann-2", "Hello", id="ann-2", user_id="ann")
        requested = await line.event("ann-2", "approval_requested")
        assert (requested["tool"], requested["approvers"]) == ("exceed_budget", ["boss"])
        assert requested["input"] == {
            "budget": "ann_calls",
            "scope": "user",
            "limit": 1,
            "spent": 1,
            "reserved": 1,
            "raised_to": 2,
        }
        await line.command("approval_decision", "ann-2", call_id=requested["call_id"], decision="approve", by="boss")
        assert (await line.end("ann-2", "ann-2"))["type"] == "turn_completed"
        assert (await line.ask("bob-2", "Hello", id="bob-2", user_id="bob"))["type"] == "turn_completed"
        models = {fact["session_id"]: fact["model"] for fact in world.outcomes()}
        assert models["bob-2"] == "claude-haiku-5-5"
        assert models["ann-2"] == models["cy-1"] == "claude-sonnet-5-5"
        last = await line.ask("bob-3", "Hello", id="bob-3", user_id="bob")
        assert last["type"] == "turn_failed", "twice the limit is used up"
        left = await budget_status(world.settings, parse_budgets(budgets, "budgets.toml"))
        assert [(row.account, row.unit, row.limit, row.spent, row.left) for row in left] == [
            (today("ann") + "//ann", "calls", 1, 2, 0),
            (today("bob") + "//bob", "calls", 1, 2, 0),
        ]
        orders = [order for order in line.bodies("llm-requests") if "exceeds" in order]
        assert {order["session_id"]: order["exceeds"] for order in orders} == {
            "ann-2": ["ann_calls"],
            "bob-2": ["bob_calls"],
        }


async def test_budgets_without_redis_are_refused_at_the_start(cluster: Cluster, tmp_path: Path) -> None:
    """With what is missing; so is a file that cannot be meant."""
    file = tmp_path / "budgets.toml"
    for text, problem in ((house(0), "HEADRACE_REDIS"), ('[a]\nscope = "x"\n', "budgets.toml, [a]")):
        file.write_text(text)
        with pytest.raises(AssertionError, match="worker") as raised:
            await cluster.add_worker("refused.", HEADRACE_BUDGETS=str(file), HEADRACE_REDIS="")
        assert problem in str(raised.value)
        cluster.workers.pop()
