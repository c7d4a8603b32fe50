"""Limits of a turn and of a session: a defect or a hostile prompt ends a turn, not the budget.

A breach ends the turn with a `TurnFailed` whose code names the limit.
"""

from typing import Annotated

import msgspec
from msgspec import Struct

Positive = Annotated[int, msgspec.Meta(ge=1)]


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every default is about ten times what an ordinary turn needs."""

    # An agent that works for itself seldom needs more than a handful of rounds; SDKs stop at 10 to 25.
    model_calls_per_turn: Positive = 25
    # Four parallel calls in each round.
    tool_calls_per_turn: Positive = 100
    # Two and a half full 200,000-token contexts, counted over all calls of the turn, cached input included.
    tokens_per_turn: Positive = 500_000
    # A model's longest answer takes minutes; a person has left by then.
    turn_seconds: Positive = 600
    # Parallel research by a handful of agents, several times over.
    asks_per_turn: Positive = 20
    # A round every second over all its sessions; each broadcast is a turn of every agent that it reaches.
    broadcasts_per_minute: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 60
    # An agent that asks one that asks one … seldom needs more than two; agents that ask each other end here.
    ask_depth: Positive = 4
    # An asked agent has limits of its own; this one is for those that wait for people.
    ask_seconds: Positive = 24 * 3_600
    # Enough for a triage that was wrong twice; agents that pass a conversation back and forth end here.
    handoffs_per_turn: Positive = 5
    # About 500,000 tokens at four bytes each: more than the largest context window of most models.
    transcript_bytes: Positive = 2 << 20
    # Rewritten with the session's head at each step, so it is kept small; one record of a topic has to hold it.
    queued_messages: Positive = 16
    queued_bytes: Positive = 1 << 20
