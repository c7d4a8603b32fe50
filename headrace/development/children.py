"""The stack's own processes besides the servers: the simulated model, and one for each role of the pipeline."""

import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from headrace.stack.child import Child, OnRestart
from headrace.stack.ports import LOOPBACK, free_port

CONNECT_TIMEOUT_S = 1.0


class SimulatedModel(Child):
    """The simulated model on a free port, which it keeps when it is started again."""

    def __init__(self, data_dir: Path, latency_s: float, on_restart: OnRestart) -> None:
        self._port = free_port()
        super().__init__(
            "model",
            python("headrace.simulated_model", "--port", str(self._port), "--latency", str(latency_s)),
            log_path=data_dir / "model.log",
            on_restart=on_restart,
        )

    @property
    def url(self) -> str:
        """What `ANTHROPIC_BASE_URL` is set to."""
        return f"http://{LOOPBACK}:{self._port}"

    def is_ready(self) -> bool:
        try:
            socket.create_connection((LOOPBACK, self._port), CONNECT_TIMEOUT_S).close()
        except OSError:
            return False
        return True


class Role(Child):
    """`headrace ROLE` under a name and on a data directory of its own, where it says when it serves."""

    def __init__(self, role: str, name: str, data_dir: Path, env: Mapping[str, str], on_restart: OnRestart) -> None:
        home = data_dir / name
        self._ready_file = home / f"{role}.ready"
        super().__init__(
            name,
            python("headrace", role),
            log_path=home / f"{role}.log",
            env={**env, "HEADRACE_NAME": name, "HEADRACE_DATA_DIR": str(home)},
            on_restart=on_restart,
        )

    def is_ready(self) -> bool:
        # The file of a process that was killed stays, with the process id of that one.
        try:
            return self._ready_file.read_text().split()[:1] == [str(self.process.pid)]
        except FileNotFoundError:
            return False


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours."""
    return [sys.executable, "-m", module, *arguments]
