"""What an endpoint is: a row of a table, from which the server and its OpenAPI document are made."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.caller import Caller, Scope
from gateway.parts import Parts
from schemas.ids import SessionId

Handler = Callable[[web.Request, Parts, Caller], Awaitable[web.StreamResponse]]

PATH_PARAMETERS: dict[str, Any] = {
    "session_id": SessionId,
    "topic": Annotated[str, msgspec.Meta(min_length=1, max_length=249, description="The name of a topic.")],
    "partition": Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1, description="A partition of the topic.")],
    "offset": Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1, description="An offset in the partition.")],
}
"""What may stand in a path, in braces; its type checks it, and is said in the document."""


class Route(Struct, frozen=True, kw_only=True):
    """An endpoint.

    `scope` is what the key must have; None: any key will do. `needs_key` False: it is called with `ANYONE`, key or not.
    `query` and `body` are what `read_query` and `read_body` read. `answers` has the body for each status of success,
    None where it is not JSON: then `media_type` says what it is. Problems need not be named. `request_headers` are
    those that the endpoint reads, with their meaning.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    answers: dict[int, type[Struct] | None]
    scope: Scope | None = None
    needs_key: bool = True
    query: type[Struct] | None = None
    body: type[Struct] | None = None
    media_type: str = "application/json"
    request_headers: Mapping[str, str] = {}
