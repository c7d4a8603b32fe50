"""Frames of a client that are commands, and frames that are none."""

from collections.abc import Callable
from uuid import uuid4

import msgspec
from aiohttp import web

from gateway.caller import Caller
from gateway.commands import send_command
from gateway.parts import Parts
from gateway.problems import Code, Problem
from gateway.websocket_frames import (
    AcceptedFrame,
    Approve,
    Cancel,
    CommandFrames,
    Deny,
    End,
    FromClient,
    Send,
)
from schemas.commands import ApprovalDecision, CancelTurn, Command, EndSession, UserMessage

_decode: Callable[[str], FromClient] = msgspec.json.Decoder(FromClient).decode


class _Ref(msgspec.Struct):
    ref: str | None = None


def read_frame(text: str) -> FromClient:
    """The frame; raises `Problem(not_json or not_valid)`."""
    try:
        return _decode(text)
    except msgspec.ValidationError as error:
        raise Problem(
            Code.NOT_VALID, f"the frame is not as it must be: {error}; docs/websocket.md has every frame"
        ) from None
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise Problem(Code.NOT_JSON, f"expected a JSON object as the frame: {error}") from None


def ref_of(text: str) -> str | None:
    """The `ref` of a frame that is not as it must be, where it has one."""
    try:
        return msgspec.json.decode(text, type=_Ref).ref
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None


def command_of(frame: CommandFrames, caller: Caller) -> Command:
    """The command that the frame is; raises `Problem(not_valid)`."""
    command_id = frame.id or uuid4().hex
    match frame:
        case Send():
            if (frame.text is None) == (frame.content is None):
                raise Problem(Code.NOT_VALID, "expected either `text` or `content`, got both or none: give one of them")
            return UserMessage(
                session_id=frame.session_id,
                id=command_id,
                text=frame.text,
                content=frame.content,
                agent=frame.agent,
                user_id=frame.user_id,
                tenant=caller.tenant,
                metadata=frame.metadata,
            )
        case Cancel():
            return CancelTurn(
                session_id=frame.session_id,
                id=command_id,
                message_id=frame.message_id,
                reason=frame.reason,
                by=caller.name,
            )
        case Approve() | Deny():
            return ApprovalDecision(
                session_id=frame.session_id,
                id=command_id,
                call_id=frame.call_id,
                decision="approve" if isinstance(frame, Approve) else "deny",
                reason=frame.reason,
                by=caller.name,
                input=frame.input if isinstance(frame, Approve) else None,
            )
        case End():
            return EndSession(session_id=frame.session_id, id=command_id, reason=frame.reason)


async def do(request: web.Request, parts: Parts, caller: Caller, ref: str, command: Command) -> AcceptedFrame:
    """Hand the command to the brokers; raises `Problem`, as over HTTP."""
    accepted = await send_command(request, parts, caller, command)
    return AcceptedFrame(ref=ref, session_id=accepted.session_id, message_id=accepted.id)
