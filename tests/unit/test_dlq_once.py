"""A record that is sent again, however often and from wherever, is one command."""

import json

import pytest
from msgspec.structs import replace
from shell_fixture import NOW, Bench

from agents.catalog import Catalog
from agents.spec import AgentSpec
from schemas.codec import decode_command
from schemas.commands import UserMessage
from schemas.dead_letter import (
    EDITED_HEADER,
    FIRST_HEADER,
    REPLAY_HEADER,
    Cause,
    DeadLetter,
    command_id_of,
    replay_headers,
)
from schemas.log import MessageAccepted, SessionReleaseRequested
from schemas.topics import USER_MESSAGES
from streams.accept import read_command
from streams.dead_letter import DeadLetters
from streams.ports import Delivery
from streams.route_broadcast import RouteBroadcasts
from streams.session_log import SessionLog


class Nobody:
    """What reads the session log here: nothing is expected of it."""

    is_full = False

    async def take(self, delivery: Delivery) -> None:
        raise AssertionError(f"nothing is gathered: {delivery}")


LETTER = DeadLetter(
    id="user-messages/1/7",
    topic="user-messages",
    partition=1,
    offset=7,
    at=NOW,
    processor="accept",
    cause=Cause.NOT_VALID,
    error="why",
    key=None,
    value=b"{}",
    headers=(("traceparent", b"00-1"),),
)
HI = json.dumps({"session_id": "s1", "text": "hi"}).encode()


def test_a_record_without_an_id_keeps_the_one_of_its_first_delivery() -> None:
    """Also one that was refused again, and is sent again from there."""
    headers = replay_headers(LETTER)
    assert headers == [("traceparent", b"00-1"), (REPLAY_HEADER, b"user-messages/1/7")]
    assert command_id_of("user-messages/1/9", headers) == "user-messages/1/7"
    again = replace(LETTER, id="user-messages/1/9", offset=9, headers=tuple(headers))
    third = replay_headers(again)
    assert dict(third)[REPLAY_HEADER] == b"user-messages/1/9"
    assert command_id_of("user-messages/1/12", third) == "user-messages/1/7"
    fourth = replay_headers(replace(LETTER, id="user-messages/1/12", headers=tuple(third)))
    assert command_id_of("user-messages/1/15", fourth) == "user-messages/1/7"
    assert [name for name, _ in fourth].count(FIRST_HEADER) == 1


def test_an_edited_record_says_so_also_when_it_is_sent_again() -> None:
    """Its value is not what its sender wrote."""
    edited = replay_headers(LETTER, is_edited=True)
    assert dict(edited)[EDITED_HEADER] == b"true"
    assert dict(replay_headers(replace(LETTER, headers=tuple(edited))))[EDITED_HEADER] == b"true"
    assert EDITED_HEADER not in dict(replay_headers(LETTER))


@pytest.mark.parametrize("forged", [b"", b"no place", b"a/b/c", b"t/1/2\n", b"x" * 300 + b"/1/2", "ü/1/2".encode()])
def test_a_header_that_names_no_place_is_not_heeded(forged: bytes) -> None:
    """Anyone can write one: an id stays short and printable."""
    assert command_id_of("user-messages/1/9", [(REPLAY_HEADER, forged)]) == "user-messages/1/9"
    assert command_id_of("user-messages/1/9", [(REPLAY_HEADER, None)]) == "user-messages/1/9"


def test_accept_gives_the_id() -> None:
    """An id of its own counts more."""
    headers = replay_headers(LETTER)
    fact = read_command(Bench().delivery(9, HI, headers=tuple(headers)), NOW)
    assert isinstance(fact, MessageAccepted)
    assert fact.message_id == "user-messages/1/7"
    own = json.dumps({"session_id": "s1", "text": "hi", "id": "m1"}).encode()
    fact = read_command(Bench().delivery(9, own, headers=tuple(headers)), NOW)
    assert isinstance(fact, MessageAccepted)
    assert fact.message_id == "m1"


async def test_a_broadcast_that_is_sent_again_goes_to_the_same_sessions() -> None:
    """Those who got it the first time do not answer twice."""
    bench = Bench()
    catalog = Catalog({"assistant": AgentSpec(name="assistant", instructions="x")}, "assistant")
    headers = ((REPLAY_HEADER, b"broadcasts/0/2"),)
    await RouteBroadcasts(bench.shell, DeadLetters(bench.shell), catalog, SessionLog(bench.shell, Nobody())).take(
        bench.delivery(8, b'{"text": "hi"}', headers=headers)
    )
    (sent,) = bench.outbox.to(USER_MESSAGES.name)
    message = decode_command(sent.value or b"")
    assert isinstance(message, UserMessage)
    assert message.id == message.session_id == "broadcasts/0/2:assistant"


def test_a_release_is_accepted() -> None:
    """By whom and why is in the log."""
    value = json.dumps({"type": "release_session", "session_id": "s1", "id": "r1", "by": "ann", "reason": "1.4"})
    fact = read_command(Bench().delivery(9, value.encode()), NOW)
    expected = SessionReleaseRequested(session_id="s1", command_id="r1", at=NOW, by="ann", reason="1.4")
    assert fact == expected
