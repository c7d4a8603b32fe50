"""What was gathered, as programs and as models read it: within a bound, however much the agents said."""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from agents.session import Gathering
from schemas.gather import GatheredReply, WhyOver, reply_session_id

MAX_GATHERED_CHARACTERS = 200_000
"""About 50,000 tokens, which fit the context of most models; six bytes each at most, so they fit a record as well."""
WHY = {
    "gathered": "as many as were asked for",
    "exhausted": "the others have no answer",
    "deadline": "then the time was over",
    "cancelled": "then it was cancelled",
}


class Told(NamedTuple):
    """The replies, long ones cut, and all of it as one text."""

    replies: tuple[GatheredReply, ...]
    text: str


def told_together(
    gathering: Gathering, replies: tuple[GatheredReply, ...], missing: Iterable[str], reason: WhyOver
) -> Told:
    """The replies to a broadcast in one piece."""
    share = MAX_GATHERED_CHARACTERS // max(len(replies), 1)
    kept = tuple(_cut(gathering, reply, share) for reply in replies)
    asked = len(gathering.agents)
    parts = [f"{len(kept)} of {asked} agents replied to the broadcast `{gathering.broadcast_id}`; {WHY[reason]}."]
    parts += [f"[{reply.agent}{', failed' if reply.is_error else ''}]\n{reply.content}" for reply in kept]
    absent = ", ".join(missing)
    if absent:
        parts.append(f"No reply from: {absent}.")
    return Told(kept, "\n\n".join(parts))


def _cut(gathering: Gathering, reply: GatheredReply, share: int) -> GatheredReply:
    if len(reply.content) <= share:
        return reply
    where = reply_session_id(gathering.broadcast_id, reply.agent)
    cut = f"{reply.content[:share]}… (cut off: all {len(reply.content):,} characters are in session {where})"
    return replace(reply, content=cut)
