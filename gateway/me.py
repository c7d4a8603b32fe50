"""Who one is at the door."""

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.caller import Caller, Scope
from gateway.parts import Parts
from gateway.reading import answer
from gateway.route import Route


class Me(Struct, frozen=True, kw_only=True):
    """What the key in use is."""

    name: Annotated[str, msgspec.Meta(description="The key's name.")]
    tenant: Annotated[str | None, msgspec.Meta(description="The key's tenant; none: it is an operator's.")]
    scopes: Annotated[tuple[Scope, ...], msgspec.Meta(description="What the key may be used for.")]
    session_prefix: Annotated[str, msgspec.Meta(description="What the ids of the caller's sessions begin with.")]
    is_open: Annotated[bool, msgspec.Meta(description="Whether the gateway lets everybody on this machine in.")]


async def get_me(request: web.Request, parts: Parts, caller: Caller) -> web.Response:
    del request
    return answer(
        Me(
            name=caller.name,
            tenant=caller.tenant,
            scopes=tuple(sorted(caller.scopes)),
            session_prefix=caller.session_prefix,
            is_open=parts.settings.gateway.open,
        )
    )


ROUTES = (
    Route(
        method="GET", path="/v1/me", handler=get_me, summary="Who one is at the door", tag="gateway", answers={200: Me}
    ),
)
