"""Ports of 127.0.0.1 for servers that start after the port was chosen."""

import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
# Above the well-known servers of a developer's machine, below the usual range of outgoing connections.
LOWEST_PORT = 15_000
HIGHEST_PORT = 32_767
# With thousands of free ports, a hundred misses in a row mean that something else is wrong.
MAX_ATTEMPTS = 100
_chosen: set[int] = set()
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on; each once in a process, since its server may start much later.

    It lies outside the range from which the kernel takes the ports of outgoing connections: otherwise a client that
    reconnects to a server that is down can be given the server's own port, and the server cannot start again.
    """
    highest = _highest_port()
    for _ in range(MAX_ATTEMPTS):
        port = random.randint(LOWEST_PORT, highest)  # noqa: S311 - a port is no secret
        if port not in _chosen and is_free(port):
            _chosen.add(port)
            return port
    raise OSError(f"found no free port between {LOWEST_PORT} and {highest} on {LOOPBACK} in {MAX_ATTEMPTS} attempts")


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections are in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def kept_port(path: Path) -> int:
    """The port that this file names, where it is free; otherwise another one, which the file names from now on."""
    kept = path.read_text() if path.exists() else ""
    if kept.isdecimal() and is_free(int(kept)):
        return int(kept)
    port = free_port()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(port))
    return port


def _highest_port() -> int:
    if not _EPHEMERAL_RANGE.exists():
        return HIGHEST_PORT
    lowest_ephemeral = int(_EPHEMERAL_RANGE.read_text().split()[0])
    return lowest_ephemeral - 1 if lowest_ephemeral > LOWEST_PORT + MAX_ATTEMPTS else HIGHEST_PORT
