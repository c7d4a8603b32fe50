"""What was told to stop does stop, or is left alone."""

import asyncio
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from runtime import ending
from runtime.ending import cancelled, ended, heeding


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "AGAIN_S", 0.001)


async def goes_on(until: "asyncio.Future[None]") -> None:
    """As redis-py does: something is sent within a time, and then somebody listens for ever."""
    await asyncio.wait_for(until, 60)
    await asyncio.Event().wait()


async def stubborn(times: int) -> None:
    """Takes so many cancellations for something else."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            times -= 1
            if times < 0:
                raise


async def test_a_cancellation_that_comes_in_the_moment_of_success() -> None:
    """`asyncio.wait_for` of Python 3.11 loses it; the task ends all the same."""
    until = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(goes_on(until))
    await asyncio.sleep(0)
    until.set_result(None)
    async with asyncio.timeout(10):
        await cancelled(task)
    assert task.cancelled()


async def test_tasks_end_with_whatever_they_raise() -> None:
    """One that loses cancellations, one that failed, one that is done: nothing is raised, and nothing reported."""

    async def fail() -> None:
        raise ValueError

    done = asyncio.create_task(asyncio.sleep(0))
    await done
    tasks = asyncio.create_task(stubborn(3)), asyncio.create_task(fail()), done
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await cancelled(*tasks)
    assert all(task.done() for task in tasks)


async def test_a_task_that_does_not_end_is_left_alone() -> None:
    """After a while; the log has its name."""
    ends = asyncio.Event()

    async def deaf() -> None:
        while not ends.is_set():
            with suppress(asyncio.CancelledError):
                await ends.wait()

    task = asyncio.create_task(deaf(), name="a client")
    await asyncio.sleep(0)
    with capture_logs() as logged:
        await cancelled(task, within_s=0.01)
    assert not task.done()
    assert [(one["event"], one["tasks"]) for one in logged] == [
        ("tasks_not_ended", ["a client: test_a_task_that_does_not_end_is_left_alone.<locals>.deaf"])
    ]
    ends.set()
    await task


async def test_work_that_has_its_time() -> None:
    """What ends in time has ended; what does not is given up; what fails has failed."""

    async def fail() -> None:
        raise ConnectionResetError

    assert await ended(asyncio.sleep(0), "nothing")
    with capture_logs() as logged:
        assert not await ended(asyncio.Event().wait(), "a producer", within_s=0.001)
    assert [(one["event"], one["what"]) for one in logged] == [("not_ended_in_time", "a producer")]
    with pytest.raises(ConnectionResetError):
        await ended(fail(), "a consumer")


async def test_work_that_heeds_a_stop() -> None:
    """It may end before anybody asks, or a while after; then it is cancelled. What fails has failed."""
    stopping = asyncio.Event()

    async def end_with_it() -> None:
        await stopping.wait()
        await asyncio.sleep(0)

    async def fail() -> None:
        raise ConnectionResetError

    assert await heeding(asyncio.sleep(0), stopping, 10)
    with pytest.raises(ConnectionResetError):
        await heeding(fail(), stopping, 10)
    heeded = asyncio.create_task(heeding(end_with_it(), stopping, 10))
    unheeded = asyncio.create_task(heeding(stubborn(1), stopping, 0.001))
    await asyncio.sleep(0)
    assert not heeded.done()
    stopping.set()
    async with asyncio.timeout(10):
        assert await heeded
        assert not await unheeded
