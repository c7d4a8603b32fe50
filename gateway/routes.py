"""Every endpoint of the gateway, in one table."""

from gateway import agents, commands, health, me, reads, sse, websocket
from gateway.route import Route

ROUTES: tuple[Route, ...] = (
    *commands.ROUTES,
    *reads.ROUTES,
    *me.ROUTES,
    *agents.ROUTES,
    *health.ROUTES,
    *sse.ROUTES,
    *websocket.ROUTES,
)
