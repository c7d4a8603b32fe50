"""Which limit forbids what comes next, if one does."""

import msgspec

from agents.draft import Draft, size_bytes
from agents.failures import limit_reached, queue_full
from agents.limits import Limits
from agents.session import Entry
from schemas.failure import Failure, FailureCode
from schemas.log import MessageAccepted


def queue_breach(draft: Draft, queue: tuple[MessageAccepted, ...]) -> Failure | None:
    """The limit that forbids such a queue, if one does; the default one where the running turn's agent was removed."""
    spec = draft.spec_of(draft.turn.agent)
    limits = spec.limits if spec else Limits()
    if len(queue) > limits.queued_messages:
        return queue_full(limits.queued_messages, "messages")
    if sum(len(msgspec.json.encode(message)) for message in queue) > limits.queued_bytes:
        return queue_full(limits.queued_bytes, "bytes of messages")
    return None


def entry_breach(draft: Draft, limits: Limits, entry: Entry) -> Failure | None:
    """The limit that forbids a turn to begin with `entry`; it is not kept then, so that the session grows no more."""
    if draft.head.transcript_bytes + size_bytes(entry) > limits.transcript_bytes:
        return _transcript_full(limits)
    return None


def call_breach(draft: Draft) -> Failure | None:
    """The limit that forbids another model call, if one does."""
    turn, limits = draft.turn, draft.spec.limits
    if turn.model_calls >= limits.model_calls_per_turn:
        return limit_reached(FailureCode.LIMIT_MODEL_CALLS, limits.model_calls_per_turn, "model calls in a turn")
    if turn.usage.total_tokens >= limits.tokens_per_turn:
        return limit_reached(FailureCode.LIMIT_TOKENS, limits.tokens_per_turn, "tokens in a turn")
    if draft.at >= turn.deadline:
        return limit_reached(FailureCode.LIMIT_TURN_SECONDS, limits.turn_seconds, "seconds for a turn")
    if draft.head.transcript_bytes > limits.transcript_bytes:
        return _transcript_full(limits)
    return None


def _transcript_full(limits: Limits) -> Failure:
    return limit_reached(FailureCode.LIMIT_TRANSCRIPT, limits.transcript_bytes, "bytes of transcript in a session")
