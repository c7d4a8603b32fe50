"""Every endpoint of the gateway, in one table."""

from gateway import agents, commands, health, me
from gateway.route import Route

ROUTES: tuple[Route, ...] = (
    *commands.ROUTES,
    *me.ROUTES,
    *agents.ROUTES,
    *health.ROUTES,
)
