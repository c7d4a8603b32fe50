"""What the benches share: the stack that they drive, what its processes take, and statistics."""

import argparse
import asyncio
import os
import shlex
import signal
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace.stack.endpoints import Endpoints, read_endpoints
from runtime.settings.values import user_data_dir

READERS = ("project", "gateway")


@dataclass(frozen=True, slots=True)
class Figures:
    """What one measurement came to. Latencies in seconds, sorted; CPU in seconds, by process."""

    seconds: float
    latencies: Sequence[float]
    cpu: Mapping[str, float]
    failed: int = 0

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.latencies) * 1e3

    @property
    def p99_ms(self) -> float:
        return self.latencies[int(len(self.latencies) * 0.99)] * 1e3

    def cpu_ms(self, name: str) -> float:
        """CPU of a process for each that was done."""
        return self.cpu.get(name, 0.0) / len(self.latencies) * 1e3

    def __str__(self) -> str:
        cpu = "  ".join(f"{name} {self.cpu_ms(name):.2f}" for name in self.cpu)
        return (
            f"n={len(self.latencies):<6} {self.rate:7.0f}/s  p50={self.p50_ms:8.1f} ms  p99={self.p99_ms:8.1f} ms"
            f"{f'  CPU ms: {cpu}' if cpu else ''}{f'  FAILED={self.failed}' if self.failed else ''}"
        )


class Meter:
    """Counts time and CPU from its making on; `pids` by the names of the processes."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = {**pids, "client": os.getpid()}
        self._cpu = self._taken()
        self._started = time.perf_counter()

    def figures(self, latencies: Sequence[float], failed: int = 0) -> Figures:
        """What happened until now."""
        seconds = time.perf_counter() - self._started
        cpu = {name: taken - self._cpu[name] for name, taken in self._taken().items()}
        return Figures(seconds, sorted(latencies), cpu, failed)

    def _taken(self) -> dict[str, float]:
        return {name: cpu_seconds([pid]) for name, pid in self._pids.items()}


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of the processes so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_kib(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise SystemExit(f"expected a running process {pid}, got none: it has ended")


def add_stack_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", type=Path, default=user_data_dir(), help="of the `headrace dev` to drive (default: its own)"
    )
    parser.add_argument(
        "--alone",
        action="store_true",
        help="stop the stack's projections and gateway meanwhile (SIGSTOP, then SIGCONT), which work for readers on "
        "the same cores: for comparing the worker alone with something that has no such parts",
    )


def simulated_stack(arguments: argparse.Namespace) -> tuple[Endpoints, str]:
    """The stack that the arguments name, and the address of its simulated model."""
    endpoints = read_endpoints(arguments.data_dir)
    if endpoints.model is None:
        raise SystemExit("expected a stack with the simulated model, got one with a real one")
    return endpoints, endpoints.model


def measured_pids(endpoints: Endpoints) -> dict[str, int]:
    """Whose CPU counts: the first worker, the broker, the model."""
    pids = {"worker": endpoints.worker_pids[0]}
    names = {"kafka": "broker", "model": "model"}
    return pids | {shown: endpoints.pids[name] for name, shown in names.items() if name in endpoints.pids}


@contextmanager
def readers_stopped(endpoints: Endpoints | None, *, wanted: bool) -> Iterator[None]:
    """The projections and the gateway take nothing meanwhile; afterwards they go on where they were."""
    running = endpoints.pids if wanted and endpoints is not None else {}
    pids = [running[name] for name in READERS if name in running]
    # As at Ctrl-C: they must go on.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def run_beside(command: str, when: str, endpoints: Endpoints | None) -> None:
    """Run a command, and print what it prints, and what the idle stack took of the processors meanwhile."""
    pids = list(endpoints.pids.values()) if endpoints is not None else []
    cpu, started = cpu_seconds(pids), time.perf_counter()
    process = await asyncio.create_subprocess_exec(*shlex.split(command), stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async for line in process.stdout:
        print(f"{when:6} | {line.decode().rstrip()}", flush=True)
    status = await process.wait()
    seconds = time.perf_counter() - started
    share = (cpu_seconds(pids) - cpu) / seconds
    print(f"{when:6} | status {status} after {seconds:.0f} s; the idle stack took {share:.0%} of one core meanwhile")
