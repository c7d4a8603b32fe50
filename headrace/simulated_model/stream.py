"""A reply as bytes: one JSON message, or the server-sent events of a stream."""

from typing import Any

import msgspec
import orjson

from headrace.simulated_model.replies import REFUSAL_EXPLANATION, Reply, reply_characters
from headrace.simulated_model.usage import InputUsage, tokens_in

DELTAS_MAX = 20
TEXT_DELTA_MIN_CHARACTERS = 24
INPUT_DELTA_MIN_CHARACTERS = 12

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
BAD_CHUNK = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_del\n\n'
TEXT_START = (
    b"event: content_block_start\n"
    b'data: {"type":"content_block_start","index":%d,"content_block":{"type":"text","text":""}}\n\n'
)
TEXT_DELTA = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":%d,"delta":{"type":"text_delta","text":%b}}\n\n'
)
INPUT_DELTA = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":%d,"delta":{"type":"input_json_delta","partial_json":%b}}\n\n'
)
BLOCK_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'


class Outgoing(msgspec.Struct, frozen=True):
    """A reply with what the envelope adds to it."""

    reply: Reply
    reply_id: str
    model: str
    usage: InputUsage

    def message(self) -> bytes:
        """Return the whole reply as the JSON of `POST /v1/messages` without `stream`."""
        reply = self.reply
        content: list[dict[str, Any]] = [{"type": "text", "text": reply.text}] if reply.text else []
        content.extend(
            {"type": "tool_use", "id": use.id, "name": use.name, "input": use.input} for use in reply.tool_uses
        )
        return orjson.dumps(self._envelope(content, _ending(reply), self.output_tokens))

    def events(self) -> list[bytes]:
        """Return the reply as server-sent events: the opening, one entry per delta, and the end.

        The first entry holds all up to the first delta, the last one the end of the message; `message_stop` is in it.
        """
        opening = {"type": "message_start", "message": self._envelope([], _ending(None), 1)}
        entries: list[bytes] = []
        before = b"event: message_start\ndata: " + orjson.dumps(opening) + b"\n\n" + PING
        index = 0
        if self.reply.text:
            before += TEXT_START % index
            for piece in _pieces(self.reply.text, TEXT_DELTA_MIN_CHARACTERS):
                entries.append(before + TEXT_DELTA % (index, orjson.dumps(piece)))
                before = b""
            before = BLOCK_STOP % index
            index += 1
        for use in self.reply.tool_uses:
            block = {"type": "tool_use", "id": use.id, "name": use.name, "input": {}}
            before += _event("content_block_start", {"index": index, "content_block": block})
            for piece in _pieces(orjson.dumps(use.input).decode(), INPUT_DELTA_MIN_CHARACTERS):
                entries.append(before + INPUT_DELTA % (index, orjson.dumps(piece)))
                before = b""
            before = BLOCK_STOP % index
            index += 1
        usage = _usage(self.usage, self.output_tokens)
        entries.append(before + _event("message_delta", {"delta": _ending(self.reply), "usage": usage}) + MESSAGE_STOP)
        return entries

    @property
    def output_tokens(self) -> int:
        return max(1, tokens_in(reply_characters(self.reply)))

    def _envelope(self, content: list[dict[str, Any]], ending: dict[str, Any], output_tokens: int) -> dict[str, Any]:
        return {
            "id": f"msg_{self.reply_id}",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            **ending,
            "usage": {**_usage(self.usage, output_tokens), "service_tier": "standard"},
        }


def _ending(reply: Reply | None) -> dict[str, Any]:
    if reply is None:
        return {"stop_reason": None, "stop_sequence": None, "stop_details": None}
    details = None
    if reply.stop_reason == "refusal":
        details = {"type": "refusal", "category": None, "explanation": REFUSAL_EXPLANATION}
    return {"stop_reason": reply.stop_reason, "stop_sequence": reply.stop_sequence, "stop_details": details}


def _usage(usage: InputUsage, output_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": usage.uncached,
        "cache_creation_input_tokens": usage.written,
        "cache_read_input_tokens": usage.read,
        "output_tokens": output_tokens,
    }


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name, **data}))


def _pieces(text: str, minimum: int) -> list[str]:
    """Cut a text into at most DELTAS_MAX pieces of one size."""
    size = max(minimum, -(-len(text) // DELTAS_MAX))
    return [text[start : start + size] for start in range(0, len(text), size)]


def error_body(error_type: str, message: str, request_id: str, error_code: str | None = None) -> bytes:
    """Return an error in Anthropic's JSON shape."""
    error: dict[str, Any] = {"type": error_type, "message": message}
    if error_code is not None:
        error["details"] = {"error_code": error_code}
    return orjson.dumps({"type": "error", "error": error, "request_id": request_id})


def error_event(error_type: str, message: str, request_id: str) -> bytes:
    return b"event: error\ndata: %b\n\n" % error_body(error_type, message, request_id)


def grouped(entries: list[bytes], count: int) -> list[bytes]:
    """Join the entries into at most `count` writes of nearly equal numbers of entries."""
    size = -(-len(entries) // max(1, count))
    return [b"".join(entries[start : start + size]) for start in range(0, len(entries), size)]


def broken_parts(outgoing: Outgoing, *, is_stream: bool) -> list[bytes]:
    """Return a reply in parts of which the first half is never a whole reply: single events, or two halves of JSON."""
    if is_stream:
        events = b"".join(outgoing.events()).split(b"\n\n")
        return [event + b"\n\n" for event in events if event]
    message = outgoing.message()
    return [message[: len(message) // 2], message[len(message) // 2 :]]
