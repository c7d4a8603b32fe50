"""Every endpoint of the gateway, in one table."""

from gateway import me
from gateway.route import Route

ROUTES: tuple[Route, ...] = (*me.ROUTES,)
