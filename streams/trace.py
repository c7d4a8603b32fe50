"""W3C trace context: a record's trace is its sender's, or one derived from the message it belongs to."""

import re
from collections.abc import Sequence
from hashlib import blake2b

TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def traceparent_of(headers: Sequence[tuple[str, bytes | None]], message_id: str) -> str:
    """The sender's `traceparent` where it is well formed, else one derived from the message id."""
    for name, value in headers:
        if name == "traceparent" and value is not None and TRACEPARENT.fullmatch(value):
            return value.decode()
    digest = blake2b(message_id.encode(), digest_size=24).hexdigest()
    return f"00-{digest[:32]}-{digest[32:]}-01"
