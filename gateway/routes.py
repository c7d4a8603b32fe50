"""Every endpoint of the gateway, in one table."""

from gateway import agents, commands, health, me, reads, sse, websocket
from gateway.openapi import with_document
from gateway.route import Route

_DESCRIBED: tuple[Route, ...] = (
    *commands.ROUTES,
    *reads.ROUTES,
    *me.ROUTES,
    *agents.ROUTES,
    *health.ROUTES,
    *sse.ROUTES,
    *websocket.ROUTES,
)

ROUTES = with_document(_DESCRIBED)
