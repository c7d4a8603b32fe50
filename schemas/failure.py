"""Failures as data: what went wrong, and whether the same request can succeed later."""

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Struct


class FailureCode(StrEnum):
    """Every way in which a turn, a model call or a tool call fails. The value is what appears on the topics."""

    # The model's provider, for now: the same request can succeed later.
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    PROVIDER_ERROR = "provider_error"
    CONNECTION_FAILED = "connection_failed"
    STREAM_BROKEN = "stream_broken"
    CALL_TIMEOUT = "call_timeout"
    # The model's provider, for good: the request or the account must change first.
    BAD_REQUEST = "bad_request"
    AUTHENTICATION_FAILED = "authentication_failed"
    PERMISSION_DENIED = "permission_denied"
    MODEL_NOT_FOUND = "model_not_found"
    REQUEST_TOO_LARGE = "request_too_large"
    SPEND_LIMIT_REACHED = "spend_limit_reached"
    # The model answered, but not with an answer.
    REFUSAL = "refusal"
    OUTPUT_TRUNCATED = "output_truncated"
    CONTEXT_WINDOW_EXCEEDED = "context_window_exceeded"
    UNEXPECTED_STOP_REASON = "unexpected_stop_reason"
    # Tools.
    UNKNOWN_TOOL = "unknown_tool"
    BAD_ARGUMENTS = "bad_arguments"
    TOOL_ERROR = "tool_error"
    TOOL_TIMEOUT = "tool_timeout"
    OUTCOME_UNKNOWN = "outcome_unknown"
    DENIED = "denied"
    CANCELLED = "cancelled"
    # A pattern: a step of it failed, its gate let no answer pass, or its rounds are over.
    PATTERN_STOPPED = "pattern_stopped"
    # Limits of a turn or a session.
    LIMIT_MODEL_CALLS = "limit_model_calls_per_turn"
    LIMIT_TOOL_CALLS = "limit_tool_calls_per_turn"
    LIMIT_TOKENS = "limit_tokens_per_turn"
    LIMIT_TURN_SECONDS = "limit_turn_seconds"
    LIMIT_TRANSCRIPT = "limit_transcript_bytes"
    LIMIT_QUEUE = "limit_queued_messages"
    # Money and tokens.
    BUDGET_EXCEEDED = "budget_exceeded"
    # The session cannot take the message.
    UNKNOWN_AGENT = "unknown_agent"
    SESSION_ENDED = "session_ended"
    SESSION_QUARANTINED = "session_quarantined"
    INTERNAL_ERROR = "internal_error"


class Failure(Struct, frozen=True, kw_only=True):
    """Why a turn, a model call or a tool call failed."""

    code: Annotated[FailureCode, msgspec.Meta(description="The kind of failure, for programs.")]
    message: Annotated[
        str, msgspec.Meta(description="What was expected, what came and what to do, for people and for the model.")
    ]
    retryable: Annotated[bool, msgspec.Meta(description="Whether sending the same again later can succeed.")] = False
