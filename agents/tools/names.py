"""Looks names up in threads of its own: a name whose server never answers must not hold the worker's."""

import socket

from agents.tools.fetch_bounds import Resolve
from agents.tools.threads import Threads


def resolve_with(threads: Threads) -> Resolve:
    """The system's look-up of names."""

    async def resolve(host: str, port: int) -> list[str]:
        found = await threads.run(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))

    return resolve
