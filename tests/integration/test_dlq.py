"""Dead letters and quarantines as an operator handles them, with the command, beside a real worker."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
import pytest_asyncio
from chaos.cluster import Cluster
from chaos.promise import ENDS
from line import Line, serving

from headrace.dead_letters.send import Order, replay_all
from headrace.replay.fold import fold
from headrace.replay.source import read_session
from runtime.settings import Settings
from schemas.codec import encode
from schemas.dead_letter import Cause, DeadLetter

pytestmark = pytest.mark.asyncio(loop_scope="session")
PREFIX = "dlq."
TOPIC = f"{PREFIX}user-messages"
TIMEOUT_S = 60


@dataclass(frozen=True)
class Ended:
    status: int
    objects: list[dict[str, Any]]
    err: str


class Headrace:
    """Runs the command on the pipeline's topics."""

    def __init__(self, brokers: str) -> None:
        self._environment = {**os.environ, "HEADRACE_BROKERS": brokers, "HEADRACE_TOPIC_PREFIX": PREFIX}

    async def __call__(self, *arguments: str, **environment: str) -> Ended:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headrace", *arguments),
            env={**self._environment, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        assert process.returncode is not None
        assert "Traceback" not in err.decode()
        return Ended(process.returncode, [msgspec.json.decode(line) for line in out.splitlines()], err.decode())


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def line(cluster: Cluster) -> AsyncIterator[Line]:
    async with serving(cluster, PREFIX, expected_errors=("core_error",)) as (line, _):
        yield line


@pytest.fixture
def headrace(cluster: Cluster, line: Line) -> Headrace:
    del line
    return Headrace(cluster.kafka.bootstrap)


def letter(offset: int, body: dict[str, Any], cause: Cause, **fields: Any) -> DeadLetter:
    """Of a record that an older worker refused, and that the one of today takes."""
    place: dict[str, Any] = {"id": f"{TOPIC}/0/{offset}", "topic": TOPIC, "partition": 0, "offset": offset}
    given: dict[str, Any] = {"key": None, "session_id": body.get("session_id"), "value": orjson.dumps(body), **fields}
    return DeadLetter(**place, at=datetime.now(UTC), processor="accept", cause=cause, error="why", **given)


@pytest.mark.timeout(300)
async def test_replaying_twice_changes_nothing(line: Line, headrace: Headrace, cluster: Cluster) -> None:
    """Two operators at once, and a third afterwards: each message has one answer and one model call, in its order."""
    count = 12
    letters = [
        letter(9_000_000 + n, {"session_id": f"twice-{n % 3}", "text": f"Number {n}."}, Cause.EXPIRED)
        for n in range(count)
    ]
    wrong = letter(9_000_100, {"session_id": "twice-0", "txet": "hi"}, Cause.EXPIRED)
    for one in (*reversed(letters), wrong):
        await line.put("dead-letters", encode(one))
    select = ("dlq", "replay", "--cause", "expired", "--topic", "user-messages")

    planned = await headrace(*select, "--dry-run")
    assert [(each["id"], each["verdict"]) for each in planned.objects] == [
        *((one.id, "send") for one in letters),
        (wrong.id, "refused_again"),
    ]
    assert (await headrace(*select)).status == 2, "nobody can be asked"
    assert not [record for record in line.records["user-messages"] if dict(record.headers).get("headrace-replay-of")]

    first = await headrace("dlq", "replay", letters[0].id)
    assert first.status == 0, first.err
    both = await asyncio.gather(headrace(*select, "--yes"), headrace(*select, "--yes"))
    assert [ended.status for ended in both] == [0, 0]
    for one in letters:
        assert (await line.end(str(one.session_id), one.id))["type"] == "turn_completed"
    settings = Settings(brokers=cluster.kafka.bootstrap, topic_prefix=PREFIX)
    # Who looked before the others had sent anything sends all of them.
    late = [sent async for sent in replay_all(settings, [Order(letter=one) for one in letters])]
    assert len(late) == count
    third = await headrace(*select, "--yes")
    assert Counter(each.get("verdict") for each in third.objects) == {"replayed_already": count, "refused_again": 1}
    fourth = await headrace("dlq", "replay", letters[0].id)
    assert [each["verdict"] for each in fourth.objects] == ["replayed_already"]

    again = [record for record in line.records["user-messages"] if dict(record.headers).get("headrace-replay-of")]
    assert len(again) >= 2 * count
    for session in range(3):
        await line.ask(f"twice-{session}", "And now?", id="last")
    for session in range(3):
        ends = [event for event in line.events(f"twice-{session}") if event["type"] in ENDS]
        wanted = [one.id for one in letters if one.session_id == f"twice-{session}"]
        assert [end["message_id"] for end in ends] == [*wanted, "last"]
    calls = {call: made for call, made in (await cluster.model_calls()).items() if call.startswith("twice-")}
    assert len(calls) == count + 3
    assert {made["started"] for made in calls.values()} == {1}


async def test_a_record_is_edited_and_sent_again(line: Line, headrace: Headrace, tmp_path: Path) -> None:
    """What would be refused is not sent; what is sent says that it was edited, and its story is told."""
    place = await line.put("user-messages", b'{"session_id": "edited", "txet": "Hello."}', key=b"other")
    await line.letter(place)
    await line.put("user-messages", b'{"session_id": "edited", "text": "Between."}')
    still_wrong = await headrace("dlq", "replay", place, "--edit", EDITOR="sed -i s/txet/test/")
    assert still_wrong.status == 1
    assert "would be refused (not_valid)" in still_wrong.err
    unchanged = await headrace("dlq", "replay", place, "--edit", EDITOR="true")
    assert (unchanged.status, "was not changed" in unchanged.err) == (1, True)
    file = tmp_path / "value.json"
    file.write_bytes(b"no JSON")
    assert (await headrace("dlq", "replay", place, "--value", str(file))).status == 1
    assert not [record for record in line.records["user-messages"] if dict(record.headers).get("headrace-edited")]

    sent = await headrace("dlq", "replay", place, "--edit", EDITOR="sed -i s/txet/text/")
    assert sent.status == 0, sent.err
    end = await line.end("edited", place)
    assert end["type"] == "turn_completed"
    again = await headrace("dlq", "replay", place, "--edit", EDITOR="sed -i s/txet/text/")
    assert [each["verdict"] for each in again.objects] == ["replayed_already"]

    (shown,) = (await headrace("dlq", "show", place)).objects
    assert shown["causation"]["command_id"] == place
    (story,) = shown["replays"]
    assert story["edited"]
    assert story["ended"].startswith("TurnCompleted")
    assert end["turn_id"] in story["ended"]
    assert story["record"] == f"{TOPIC}/{sent.objects[0]['partition']}/{sent.objects[0]['offset']}"
    assert story["by"]
    acts = [act for act in line.bodies("audit-events") if act["details"].get("dead_letter") == place]
    assert [(act["session_id"], act["details"]["edited"]) for act in acts] == [("edited", True)]


async def test_what_was_refused_again_is_told(line: Line, headrace: Headrace) -> None:
    """The chain leads from the first place to the last, and an edited record further on is still the same command."""
    first = await line.put("user-messages", b'{"session_id": "chain", "txet": "Hello."}')
    await line.letter(first)
    sent = (await headrace("dlq", "replay", first)).objects[0]
    second = f"{sent['topic']}/{sent['partition']}/{sent['offset']}"
    await line.letter(second)
    (shown,) = (await headrace("dlq", "show", first)).objects
    assert shown["replays"][0]["ended"] == f"refused again (not_valid): dead letter {second}"
    (shown,) = (await headrace("dlq", "show", second)).objects
    assert (shown["causation"]["replay_of"], shown["causation"]["first_place"]) == (first, first)
    await headrace("dlq", "replay", second, "--edit", EDITOR="sed -i s/txet/text/")
    assert (await line.end("chain", first))["type"] == "turn_completed"


@pytest.mark.timeout(300)
async def test_a_quarantine_is_listed_released_and_made_good(line: Line, headrace: Headrace, cluster: Cluster) -> None:
    """What was turned away is answered once, however often it is sent again; the fact that broke it is named."""
    session = "broken"
    await line.ask(session, "Hello.", id="m1")
    fact = {"type": "message_accepted", "session_id": session, "message_id": "m2", "at": "9999-12-31T23:59:59Z"}
    value = orjson.dumps({**fact, "content": [{"type": "text", "text": "What broke it."}]})
    place = await line.put("session-log", value, key=session.encode())
    await line.end(session, "m2")
    await line.ask(session, "Turned away.", id="m3", user_id="ann", metadata={"a": "1"})
    await line.ask("healthy", "Hello.")
    await line.letter(place)
    replayed = await headrace("dlq", "replay", place)
    assert (replayed.status, replayed.objects[0]["verdict"]) == (1, "not_replayable")
    assert "headrace quarantine release" in replayed.objects[0]["why"]

    arguments = ("quarantine", "release", "--all", "--cause", "OverflowError", "--reason", "corrected")
    all_of_them, others, missing, unasked = await asyncio.gather(
        headrace("quarantine", "list"),
        headrace("quarantine", "list", "--cause", "KeyError"),
        headrace("quarantine", "release", session, "healthy"),
        headrace(*arguments),
    )
    (listed,) = all_of_them.objects
    expected = {"session_id": session, "fact": place, "fact_type": "message_accepted", "turned_away": 2}
    assert listed.items() >= expected.items()
    assert "OverflowError" in listed["cause"]
    assert others.objects == []
    assert (missing.status, "not quarantined, so nothing was sent: healthy" in missing.err) == (1, True)
    assert unasked.status == 2, "nobody can be asked"
    released = await headrace(*arguments, "--resend", "--yes")
    assert released.status == 0, released.err
    assert released.objects[0] == {"released": session, "id": f"release:{place}"}
    resent = {each["resent"]: each["id"] for each in released.objects[1:]}
    assert list(resent) == ["m2", "m3"]
    for new in resent.values():
        assert (await line.end(session, new))["type"] == "turn_completed"
    started = await line.event(session, "turn_started", message_id=resent["m3"])
    assert (started["user_id"], started["metadata"]) == ("ann", {"a": "1"})
    done = [("list",), ("resend", session), ("release", session)]
    listed_now, resent_now, released_now = await asyncio.gather(*[headrace("quarantine", *one) for one in done])
    assert (listed_now.objects, resent_now.objects, released_now.status) == ([], [], 1)
    facts = [fact for fact in line.bodies("session-log") if fact["type"] == "session_release_requested"]
    assert [(fact["reason"], bool(fact["by"])) for fact in facts] == [("corrected", True)]

    settings = Settings(brokers=cluster.kafka.bootstrap, topic_prefix=PREFIX)
    states = [moment.after.head for moment in fold(await read_session(settings, session)) if moment.after]
    assert [bool(head.quarantined) for head in states].count(True) == 2
    assert (states[-1].quarantined, states[-1].releases) == (None, 1)


async def test_a_fact_that_still_breaks_the_core_quarantines_again(line: Line, headrace: Headrace) -> None:
    """The list says how often it was released before; a release of the second quarantine is another command."""
    session = "again"
    await line.ask(session, "Hello.")
    for number in (1, 2):
        fact = {"type": "message_accepted", "session_id": session, "message_id": f"x{number}"}
        content = [{"type": "text", "text": "x"}]
        value = orjson.dumps({**fact, "at": "9999-12-31T23:59:59Z", "content": content})
        place = await line.put("session-log", value, key=session.encode())
        failed = await line.end(session, f"x{number}")
        await line.letter(place)
        assert (f"again after release number {number - 1}" in failed["error"]["message"]) == (number > 1)
        (listed,) = (await headrace("quarantine", "list")).objects
        assert (listed["fact"], listed["releases"]) == (place, number - 1)
        assert (await headrace("quarantine", "release", session)).status == 0
        assert (await line.ask(session, "And now?"))["type"] == "turn_completed"
    assert (await headrace("quarantine", "list")).objects == []
