"""Writes down who did what through the gateway, or was not let."""

import uuid
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from aiohttp import hdrs, web

from gateway.caller import Caller
from gateway.parts import Parts
from schemas.audit import Act, AuditEvent, Outcome

REQUEST_ID = web.RequestKey("request_id", str)
"""In the request: its id, which is also in the header `X-Request-Id` of the answer."""
MAX_AGENT_CHARACTERS = 200


async def audited(
    request: web.Request,
    parts: Parts,
    caller: Caller | None,
    act: Act,
    outcome: Outcome,
    *,
    why: str = "",
    **sides: Any,
) -> None:
    """Write an audit event of this request.

    Args:
        request: whose address, route and id are written.
        parts: has the publisher.
        caller: None where nobody knows who it is.
        act: what was done.
        outcome: how it ended.
        why: why it was denied or failed.
        sides: `session_id` and `user_id`; all others become details.
    """
    session_id, user_id = sides.pop("session_id", None), sides.pop("user_id", None)
    resource = request.match_info.route.resource
    details = {
        "request_id": request.get(REQUEST_ID),
        "method": request.method,
        "route": resource.canonical if resource is not None else None,
        "user_agent": request.headers.get(hdrs.USER_AGENT, "")[:MAX_AGENT_CHARACTERS],
        "name": caller.name if caller is not None else None,
        **sides,
    }
    event = AuditEvent(
        id=uuid.uuid4().hex,
        at=datetime.now(UTC),
        event_type=act,
        outcome=outcome,
        outcome_details=_sound(why),
        user_id=_sound(user_id),
        session_id=_sound(session_id),
        tenant=caller.tenant if caller is not None else None,
        ip_address=client_address(request, parts.settings.gateway.proxies),
        key_id=caller.key_id if caller is not None else None,
        details={name: _sound(value) for name, value in details.items() if value not in (None, "")},
    )
    await parts.publisher.audit(event)


def client_address(request: web.Request, proxies: int) -> str | None:
    """Where the request came from; behind `proxies` trusted ones, what the first of them said."""
    if proxies:
        forwarded = [part.strip() for part in ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")]
        if len(forwarded) >= proxies and _is_address(forwarded[-proxies]):
            return forwarded[-proxies]
    return request.remote


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    # The zone of an IPv6 address may be anything.
    return text.isascii()


def _sound(value: Any) -> Any:
    """Text that can be written: aiohttp has a surrogate for each byte of a header that is no UTF-8."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
