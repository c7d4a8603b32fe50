"""Waiting for an answer is a service beside the message: it neither delays nor refuses it."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from gateway import waiting as waiting_module
from gateway.feeds import Feeds
from gateway.feeds import feeds as feeds_module
from gateway.metrics import Metrics
from gateway.open_streams import OpenStreams
from gateway.parts import Parts
from gateway.waiting import Waiting


@pytest.mark.parametrize("from_beginning", [False, True])
async def test_a_feed_that_is_away_delays_no_message(monkeypatch: pytest.MonkeyPatch, *, from_beginning: bool) -> None:
    """However long a follower would wait for Redis, the message is handed over soon, and nothing is waited for."""
    monkeypatch.setattr(feeds_module, "JOIN_TIMEOUT_S", 3_600.0)
    monkeypatch.setattr(waiting_module, "JOIN_TIMEOUT_S", 0.05)
    # Nobody listens there.
    redis: Any = Redis.from_url("redis://127.0.0.1:1")
    async with Feeds(redis, "", None) as feeds:
        parts = cast("Parts", SimpleNamespace(feeds=feeds, streams=OpenStreams(10, Metrics())))
        waiting = Waiting(parts, "s1", "m1")
        async with asyncio.timeout(60), waiting.following(from_beginning=from_beginning):
            assert await waiting.end(3_600) is None
    await redis.aclose()
