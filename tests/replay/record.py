"""Makes the recordings again: sessions on a real Kafka with a real worker and the simulated model, one file each.

    .venv/bin/python tests/replay/record.py             # all of them, about two minutes
    .venv/bin/python tests/replay/record.py cancel      # those that are named
    .venv/bin/python tests/replay/record.py --refold    # the outcomes only, after the core has a new version

`--refold` keeps the facts as they were recorded and writes what the core of today makes of them.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import orjson

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from chaos.cluster import Cluster, Worker  # noqa: E402 - found by the path of the line above
from line import Line  # noqa: E402 - the same
from replay.scenarios import SCENARIOS  # noqa: E402 - the same
from replay.stage import Stage  # noqa: E402 - the same

from agents.version import CORE_VERSION  # noqa: E402 - the same
from headrace.replay.begin import find_beginning  # noqa: E402 - the same
from headrace.replay.compare import compare  # noqa: E402 - the same
from headrace.replay.export import recorded  # noqa: E402 - the same
from headrace.replay.fold import fold  # noqa: E402 - the same
from headrace.replay.recording import Recording, read_recording, write_recording  # noqa: E402 - the same
from headrace.replay.source import read_session  # noqa: E402 - the same
from runtime.settings import Settings  # noqa: E402 - the same
from schemas.codec import encode  # noqa: E402 - the same

AGENTS, TOOLS = HERE / "agents.toml", HERE / "tools.py"
SHORT_RETENTION_HOURS = "0.001"


async def record(names: Sequence[str]) -> None:
    """Play the scenarios and write their files."""
    with tempfile.TemporaryDirectory(prefix="headrace-record-") as home:
        cluster = Cluster(Path(home))
        try:
            await cluster.start(workers=0)
            for name in names:
                await _record(cluster, name)
        finally:
            await cluster.stop()


async def _record(cluster: Cluster, name: str) -> None:
    prefix = f"{name}."
    environment = {"HEADRACE_AGENTS": str(AGENTS), "HEADRACE_TOOLS": str(TOOLS), "HEADRACE_MODEL_ATTEMPTS": "2"}
    if name == "expiry":
        environment["HEADRACE_SESSION_RETENTION_HOURS"] = SHORT_RETENTION_HOURS
    worker: Worker = await cluster.add_worker(prefix, **environment)
    async with Line(cluster.kafka.bootstrap, prefix) as line:
        sessions = await SCENARIOS[name](Stage(line, worker))
        # It commits what it has decided.
        await worker.stop()
        settings = Settings(brokers=cluster.kafka.bootstrap, topic_prefix=prefix, agents=AGENTS, tools=(str(TOOLS),))
        for number, session in enumerate(sessions):
            recording = await read_session(settings, session)
            recording = recorded(recording, find_beginning(recording))
            _check(recording, line)
            suffix = f"-{number + 1}" if len(sessions) > 1 else ""
            path = HERE / f"{name}{suffix}.jsonl"
            write_recording(path, recording)
            path.chmod(0o644)
            print(f"{path.name}: {len(recording.facts)} facts, {len(recording.events)} events")


def _check(recording: Recording, line: Line) -> None:
    """A recording begins with a replay that agrees with what the worker did: its events and its orders."""
    moments = list(fold(recording))
    comparison = compare(recording, moments)
    assert not comparison.differences, comparison
    assert not comparison.undecided, comparison
    session = recording.about.session_id
    given = {orjson.dumps(body) for topic in ("llm-requests", "tool-calls") for body in line.bodies(topic)}
    ours = {orjson.dumps(orjson.loads(bytes(order))) for outcome in recording.outcomes for order in outcome.effects}
    assert ours == {order for order in given if orjson.loads(order)["session_id"] == session}, session


def refold() -> None:
    """Write the outcomes of the core of today, which must have a version of its own."""
    for path in sorted(HERE.glob("*.jsonl")):
        before = read_recording(path)
        after = recorded(before, find_beginning(before))
        if after.outcomes == before.outcomes and before.about.outcomes_of == CORE_VERSION:
            continue
        if before.about.outcomes_of >= CORE_VERSION:
            sys.exit(f"{path.name} has other outcomes: add version {CORE_VERSION + 1} to agents/version.py first")
        known = {encode(outcome) for outcome in before.outcomes}
        changed = [outcome.offset for outcome in after.outcomes if encode(outcome) not in known]
        write_recording(path, after)
        path.chmod(0o644)
        print(f"{path.name}: other outcomes at the offsets {changed or 'none'}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the recordings again.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SCENARIOS)}; by default all")
    parser.add_argument("--refold", action="store_true", help="only the outcomes, after the core has a new version")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(SCENARIOS)
    if unknown:
        parser.error(f"expected names among {', '.join(SCENARIOS)}, got {', '.join(sorted(unknown))}")
    if arguments.refold:
        refold()
    else:
        asyncio.run(record(arguments.names or list(SCENARIOS)))


if __name__ == "__main__":
    main()
