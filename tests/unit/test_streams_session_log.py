"""The session log: acknowledgements and fetches race, and each record is decided once, in the order of its offsets."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_log_fixture import NOTHING, THEIRS, Rig
from shell_fixture import NOW, settle

import streams.session_log
from schemas.log import SessionExpired


async def test_what_is_acknowledged_is_decided_before_it_is_fetched() -> None:
    """Its offset can be committed only when the consumer has come to it."""
    rig = Rig()
    await rig.append()
    await settle()
    assert rig.decider.taken == []
    rig.acknowledge()
    await settle()
    assert rig.decider.taken == [0]
    rig.decider.finish()
    assert rig.bench.acknowledged == []
    await rig.fetch()
    assert (rig.decider.taken, rig.bench.acknowledged) == ([0], [0])


async def test_a_fetch_may_overtake_the_work_on_an_early_record() -> None:
    """Then the end of the work acknowledges it."""
    rig = Rig()
    await rig.append()
    rig.acknowledge()
    await settle()
    await rig.fetch()
    assert rig.bench.acknowledged == []
    rig.decider.finish()
    assert rig.bench.acknowledged == [0]


async def test_what_is_fetched_first_is_not_taken_again() -> None:
    """The acknowledgement that comes after it changes nothing."""
    rig = Rig()
    await rig.append()
    await rig.fetch()
    rig.acknowledge()
    await settle()
    assert rig.decider.taken == [0]
    await rig.rest()


async def test_acknowledgements_out_of_order_wait_for_each_other() -> None:
    """The later ones are taken together with the one that was missing, whether acknowledged or fetched."""
    for is_fetched in (False, True):
        rig = Rig()
        for _ in range(3):
            await rig.append()
        rig.acknowledge(2)
        rig.acknowledge(1)
        await settle()
        assert rig.decider.taken == []
        if is_fetched:
            await rig.fetch()
        else:
            rig.acknowledge(0)
        await settle()
        assert rig.decider.taken == [0, 1, 2]
        await rig.rest()


async def test_a_record_of_another_worker_is_waited_for() -> None:
    """Ours that follows it is durable, but not its turn."""
    rig = Rig()
    rig.log.append(THEIRS)
    await rig.append()
    rig.acknowledge()
    await settle()
    assert rig.decider.taken == []
    await rig.fetch()
    assert rig.decider.taken == [0, 1]
    await rig.rest()


async def test_a_gap_is_passed_with_the_fetch() -> None:
    """Only the broker knows that nothing is there; what was acknowledged behind it is taken when it is fetched."""
    rig = Rig()
    rig.log += [THEIRS, NOTHING, NOTHING]
    for _ in range(2):
        await rig.append()
    rig.acknowledge()
    rig.acknowledge()
    await rig.fetch()
    await settle()
    assert rig.decider.taken == [0]
    await rig.fetch()
    assert rig.decider.taken == [0, 3, 4]
    await rig.rest()


async def test_an_acknowledgement_of_before_a_restart_counts_after_it() -> None:
    """The record is in the log, and the log is what counts: it is taken in its place, once."""
    rig = Rig()
    for _ in range(3):
        await rig.append()
    await rig.fetch()
    rig.decider.finish()
    rig.commit()
    rig.restart()
    assert rig.committed == 1
    rig.acknowledge(1)
    rig.acknowledge(0)
    await settle()
    assert rig.decider.taken == [1]
    await rig.rest()


async def test_a_partition_that_another_worker_has_is_left_alone() -> None:
    """Its outcomes are still written here; they are decided there."""
    rig = Rig()
    rig.session_log.restart({1: 4})
    await rig.append()
    rig.acknowledge()
    await settle()
    assert rig.decider.taken == []


async def test_a_record_that_is_lost_is_not_decided() -> None:
    """Whoever ordered it hears of it."""
    rig = Rig()
    durable = await rig.session_log.append(SessionExpired(session_id="s", idle_since=NOW, at=NOW), [], 0)
    (appended,) = rig.bench.outbox.appended
    appended.durable.set_exception(OSError("the broker is gone"))
    with pytest.raises(OSError, match="gone"):
        await durable
    await settle()
    assert rig.decider.taken == []


async def test_no_more_are_kept_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those beyond it come with the fetch, in their place."""
    monkeypatch.setattr(streams.session_log, "MAX_STASHED", 2)
    rig = Rig()
    rig.log.append(THEIRS)
    for _ in range(5):
        await rig.append()
    for _ in range(5):
        rig.acknowledge()
    await settle()
    await rig.fetch()
    assert rig.decider.taken == [0, 1, 2]
    await rig.rest()


async def test_what_was_fetched_needs_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that waited behind a gap leaves its place to the next one when it is fetched."""
    monkeypatch.setattr(streams.session_log, "MAX_STASHED", 1)
    rig = Rig()
    for before in ([THEIRS, NOTHING], [THEIRS]):
        rig.log += before
        await rig.append()
        rig.acknowledge()
        await settle()
        for _ in before:
            await rig.fetch()
    assert rig.decider.taken == [0, 2, 3, 4]
    await rig.rest()


async def test_a_restart_forgets_what_waits() -> None:
    """A record is being taken when it happens: what would have followed it comes again, and only then is taken."""
    rig = Rig(rounds=3)
    rig.log.append(THEIRS)
    for _ in range(2):
        await rig.append()
    for offset in (2, 1):
        rig.acknowledge(offset)
    await settle()
    fetching = asyncio.create_task(rig.fetch())
    await asyncio.sleep(0)
    assert rig.decider.taken == [0]
    rig.restart()
    await fetching
    await settle()
    assert rig.decider.taken == []
    await rig.rest()


async def test_an_error_of_what_was_taken_early_stops_the_worker() -> None:
    """Nobody waits for that work, so it must be told."""
    rig = Rig()
    rig.decider.error = ZeroDivisionError("a bug")
    await rig.append()
    rig.acknowledge()
    await settle()
    assert rig.bench.failures == [rig.decider.error]


async def test_nothing_is_decided_after_what_failed() -> None:
    """A later event would move the session's offset past the one that failed, which a restart would then skip."""
    rig = Rig()
    rig.decider.error = ZeroDivisionError("a bug")
    await rig.append()
    await rig.append()
    rig.acknowledge()
    await settle()
    rig.decider.error = None
    rig.acknowledge()
    await settle()
    await rig.fetch()
    assert rig.decider.taken == []


async def test_it_is_full_when_decide_is() -> None:
    """The consumer asks the log."""
    rig = Rig()
    for is_full in (True, False):
        rig.decider.is_full = is_full
        assert rig.session_log.is_full == is_full


async def test_nothing_is_decided_without_the_lease() -> None:
    """A worker that wakes up after its session timeout leaves what it reads to whoever owns its partitions now."""
    rig = Rig()
    rig.log += [THEIRS, THEIRS]
    await rig.append()
    rig.lease.lose()
    await rig.fetch()
    await rig.fetch()
    rig.acknowledge()
    await settle()
    assert (rig.decider.taken, rig.session_log.is_full) == ([], True)
    rig.lease.hold()
    await settle()
    assert (rig.decider.taken, rig.session_log.is_full) == ([0, 1, 2], False)
    await rig.rest()


async def test_what_waits_for_the_lease_is_dropped_when_the_partitions_are_given_out_anew() -> None:
    """It comes again, to whom it belongs."""
    rig = Rig()
    rig.log += [THEIRS, THEIRS]
    rig.lease.lose()
    await rig.fetch()
    await rig.fetch()
    rig.restart()
    rig.lease.hold()
    await settle()
    assert rig.decider.taken == []
    await rig.rest()


async def test_no_more_than_the_limit_wait_for_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the brokers take records and the group does not answer, what this worker appends comes with the fetch."""
    monkeypatch.setattr(streams.session_log, "MAX_STASHED", 2)
    rig = Rig()
    for _ in range(4):
        await rig.append()
    rig.lease.lose()
    for _ in range(4):
        rig.acknowledge()
    await settle()
    rig.lease.hold()
    await settle()
    assert rig.decider.taken == [0, 1]
    await rig.rest()


ACTIONS = (
    *("append", "append", "theirs", "gap", "acknowledge", "acknowledge", "acknowledge out of order"),
    *("fetch", "fetch", "fetch", "finish", "finish", "commit", "restart", "a round of the loop"),
    *("lose the lease", "hold the lease"),
)


async def do(rig: Rig, action: str) -> None:
    match action:
        case "append":
            await rig.append()
        case "theirs":
            rig.log.append(THEIRS)
        case "gap":
            rig.log.append(NOTHING)
        case "acknowledge" if rig.unacknowledged:
            rig.acknowledge()
        case "acknowledge out of order" if rig.unacknowledged:
            rig.acknowledge(rig.unacknowledged[-1])
        case "fetch" if rig.fetching is None or rig.fetching.done():
            # The consumer gives out one record after the other.
            rig.fetching = asyncio.create_task(rig.fetch())
        case "finish":
            rig.decider.finish()
        case "commit":
            rig.commit()
        case "restart":
            rig.restart()
        case "lose the lease":
            rig.lease.lose()
        case "hold the lease":
            rig.lease.hold()
        case _:
            await asyncio.sleep(0)


@settings(max_examples=300, deadline=None)
@given(actions=st.lists(st.sampled_from(ACTIONS), max_size=80), rounds=st.integers(0, 3))
def test_each_record_is_decided_once_and_in_order_however_they_come(actions: list[str], rounds: int) -> None:
    """Any interleaving of appends, acknowledgements, fetches, ends of work, commits and restarts."""

    async def run() -> None:
        rig = Rig(rounds)
        for action in actions:
            await do(rig, action)
            rig.check()
        if rig.fetching is not None:
            await rig.fetching
        await rig.rest()

    asyncio.run(run())
