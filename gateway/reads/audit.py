"""The audit log: who did what, newest first."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.caller import Caller
from gateway.parts import Parts
from gateway.problems import Code, Problem
from gateway.reading import answer, read_query
from gateway.reads.addresses import IpAddress, is_address
from gateway.reads.paging import NextCursor, PageQuery, PlainText, Since, Until, page, read_cursor, utc, write_cursor
from gateway.reads.times import At
from gateway.route import Route
from gateway.scopes import Scope
from schemas.audit import Outcome

LAST = datetime.max.replace(tzinfo=UTC)


class AuditQuery(PageQuery, frozen=True, kw_only=True):
    """Which acts: those to which everything applies that is given."""

    type: Annotated[PlainText | None, msgspec.Meta(description="Of this `event_type`.")] = None
    user_id: Annotated[PlainText | None, msgspec.Meta(description="By or for this user.")] = None
    session_id: Annotated[PlainText | None, msgspec.Meta(description="On this session.")] = None
    ip: Annotated[IpAddress | None, msgspec.Meta(description="From this address.")] = None
    outcome: Outcome | None = None
    from_: Since = msgspec.field(name="from", default=None)
    to: Until = None


class AuditItem(Struct, frozen=True, kw_only=True):
    """An act. A command that came through the gateway is two, which have the same `command_id` in their details."""

    id: str
    at: At
    event_type: Annotated[str, msgspec.Meta(description="What was done.")]
    user_id: str | None
    session_id: str | None
    tenant: str | None
    ip_address: str | None
    key_id: Annotated[str | None, msgspec.Meta(description="The id of the API key: not its secret.")]
    details: dict[str, Any]
    outcome: str
    outcome_details: Annotated[str, msgspec.Meta(description="Why it was denied, or failed.")]


class AuditLog(Struct, frozen=True, kw_only=True):
    """The acts, newest first."""

    items: tuple[AuditItem, ...]
    next_cursor: NextCursor


async def get_audit(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    """Who did what; a tenant's key sees its own acts, and those of the pipeline on its sessions."""
    query = read_query(request, AuditQuery)
    if query.ip is not None and not is_address(query.ip):
        error = "expected `ip` to be an IPv4 or IPv6 address, without a zone or a mask"
        raise Problem(Code.NOT_VALID, f"the query is not as it must be: {error}", errors=[error])
    at, last_id = read_cursor(query.cursor, tuple[datetime, PlainText], (LAST, ""))
    rows = await parts.database.fetch(
        "audit",
        caller.tenant,
        query.type,
        query.user_id,
        query.session_id,
        query.ip,
        None if query.outcome is None else str(query.outcome),
        utc(query.from_, "from"),
        utc(query.to, "to"),
        utc(at, "cursor"),
        last_id,
        query.limit + 1,
    )
    shown, last = page(rows, query.limit)
    return answer(
        AuditLog(
            items=tuple(_item(row) for row in shown),
            next_cursor=None if last is None else write_cursor(last["at"], last["id"]),
        )
    )


def _item(row: Any) -> AuditItem:
    return AuditItem(
        id=row["id"],
        at=row["at"],
        event_type=row["event_type"],
        user_id=row["user_id"],
        session_id=row["session_id"],
        tenant=row["tenant"],
        ip_address=row["ip_address"],
        key_id=row["key_id"],
        details=msgspec.json.decode(row["details"]),
        outcome=row["outcome"],
        outcome_details=row["outcome_details"],
    )


ROUTES = (
    Route(
        method="GET",
        path="/v1/audit",
        handler=get_audit,
        summary="Who did what",
        tag="audit",
        scope=Scope.AUDIT_READ,
        query=AuditQuery,
        answers={200: AuditLog},
    ),
)
