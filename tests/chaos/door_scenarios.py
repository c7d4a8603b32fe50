"""What happens to the stores and to the gateway while people write over HTTP, and read the feeds."""

import asyncio
from signal import SIGKILL

from chaos.run import Run, Scenario
from chaos.scenarios import CALM_S, THERE_AND_BACK, answers_come

AWAY_S = 4.0
DOWN_S = 30.0


async def redis_is_killed(run: Run) -> None:
    await answers_come(run)
    for _ in range(2):
        await run.door.kill(run.door.valkey)
        await asyncio.sleep(AWAY_S)
        await run.door.valkey.start()
        await asyncio.sleep(CALM_S)


async def redis_loses_everything(run: Run) -> None:
    """Feeds that are followed go on without a gap, and what was lost is there again."""
    await answers_come(run)
    for lose in (run.door.lose_redis_data, run.door.replace_redis, run.door.lose_redis_data):
        await asyncio.sleep(CALM_S)
        await lose()
    await asyncio.sleep(CALM_S)


async def postgres_is_down(run: Run) -> None:
    await answers_come(run)
    await run.door.kill(run.door.postgres)
    await asyncio.sleep(DOWN_S)
    await run.door.postgres.start()
    await asyncio.sleep(CALM_S)


async def postgres_is_killed(run: Run) -> None:
    await answers_come(run)
    for _ in range(2):
        await run.door.kill(run.door.postgres)
        await asyncio.sleep(AWAY_S)
        await run.door.postgres.start()
        await asyncio.sleep(CALM_S)


async def the_gateway_is_killed(run: Run) -> None:
    await answers_come(run)
    for _ in range(3):
        await run.door.kill(run.door.gateway)
        await asyncio.sleep(AWAY_S)


async def the_projections_are_killed(run: Run) -> None:
    await answers_come(run)
    for _ in range(3):
        await run.door.kill(run.door.project)
        await asyncio.sleep(AWAY_S)


async def everything_is_killed(run: Run) -> None:
    """Stores, projections, gateway, a worker and the broker, one soon after the other."""
    door, worker = run.door, run.workers[0]
    await answers_come(run)
    async with run.kept_alive(), run.outage(THERE_AND_BACK):
        await door.kill(door.valkey)
        await door.kill(door.project)
        await door.kill(door.postgres)
        worker.process.signal(SIGKILL)
        await run.kafka.kill()
        await door.kill(door.gateway)
        await asyncio.gather(run.kafka.start(), door.valkey.start(), door.postgres.start())
        await asyncio.sleep(CALM_S)
        await run.regrouped()


DOOR_SCENARIOS = (
    Scenario(name="door: Redis kill -9, twice", happens=redis_is_killed, workers=1, has_door=True),
    Scenario(name="door: Redis loses all it had, 3 times", happens=redis_loses_everything, workers=1, has_door=True),
    Scenario(name="door: PostgreSQL kill -9, twice", happens=postgres_is_killed, workers=1, has_door=True),
    Scenario(name="door: PostgreSQL down, 30 s", happens=postgres_is_down, workers=1, has_door=True),
    Scenario(name="door: gateway kill -9, three times", happens=the_gateway_is_killed, workers=1, has_door=True),
    Scenario(
        name="door: projections kill -9, three times", happens=the_projections_are_killed, workers=1, has_door=True
    ),
    Scenario(name="door: everything kill -9", happens=everything_is_killed, workers=1, has_door=True),
)
