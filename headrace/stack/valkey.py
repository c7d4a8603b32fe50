"""Valkey as a child process, on 127.0.0.1: its data, port and password outlive a restart.

It asks for a password because every user of this machine can reach the port, and a Valkey without one lets its clients
write files in the name of the user that runs it.
"""

import socket
from pathlib import Path

from headrace.stack.child import Child, OnRestart
from headrace.stack.leftover import end_leftovers
from headrace.stack.ports import LOOPBACK, kept_port
from headrace.stack.process import Conditions
from headrace.stack.programs import valkey_server
from headrace.stack.secret import kept_password
from headrace.stack.tls import write_private

PROBE_TIMEOUT_S = 1.0
MAX_REPLY_BYTES = 256

# A write is with the operating system before it is acknowledged, so what was acknowledged survives the server's death;
# the machine's own death costs the last second.
_KEEP = "appendonly yes\nappendfsync everysec\n"


class Valkey(Child):
    """One server on `data_dir/valkey`; with `keep_data` false, its death loses what it held."""

    def __init__(self, data_dir: Path, *, keep_data: bool = True, on_restart: OnRestart | None = None) -> None:
        home = (data_dir / "valkey").absolute()
        self._data = home / "data"
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._data.mkdir(exist_ok=True)
        self._password = kept_password(home / "password")
        self.port = kept_port(home / "port")
        config = home / "valkey.conf"
        # Not on the command line, which every user of this machine can read.
        write_private(config, self._config(_KEEP if keep_data else ""))
        super().__init__(
            "valkey",
            [valkey_server(), config],
            log_path=home / "valkey.log",
            conditions=Conditions(folder=self._data),
            on_restart=on_restart,
        )

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        """With its password."""
        return f"redis://:{self._password}@{self.address}/0"

    async def start(self) -> None:
        await end_leftovers(self._data, "valkey-server")
        await super().start()

    def is_ready(self) -> bool:
        """Whether it answers; while it reads its data it says that it does not yet."""
        try:
            with socket.create_connection((LOOPBACK, self.port), PROBE_TIMEOUT_S) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\nQUIT\r\n".encode())
                reply = b""
                while len(reply) < MAX_REPLY_BYTES and (more := connection.recv(MAX_REPLY_BYTES)):
                    reply += more
        except OSError:
            return False
        return b"+PONG" in reply

    def _config(self, persistence: str) -> str:
        # Its working directory is where its data are.
        return f'bind {LOOPBACK}\nport {self.port}\nrequirepass {self._password}\ndir .\nsave ""\n{persistence}'
