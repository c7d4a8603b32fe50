"""`python -m chaos`: the whole matrix, and a table of what happened."""

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from chaos.door_scenarios import DOOR_SCENARIOS
from chaos.run import Row, Scenario, perform
from chaos.scenarios import SCENARIOS
from chaos.small_disk import LeftOutError

EVERYTHING = (*SCENARIOS, *DOOR_SCENARIOS)
COLUMNS = (
    ("scenario", 40),
    ("turns", 7),
    ("lost", 6),
    ("events again", 14),
    ("calls again", 13),
    ("silence", 9),
    ("longest wait", 14),
    ("recovery", 10),
    ("restarts", 10),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description="Break things while people write, and count.")
    parser.add_argument("--rounds", type=int, default=1, help="how often the whole matrix is run")
    parser.add_argument("--only", default="", help="only the scenarios whose name has this in it")
    arguments = parser.parse_args()
    chosen = [scenario for scenario in EVERYTHING if arguments.only in scenario.name]
    if not chosen:
        known = "\n  ".join(scenario.name for scenario in EVERYTHING)
        parser.error(f"no scenario has `{arguments.only}` in its name:\n  {known}")
    # Clients of brokers that are away say so many times.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return asyncio.run(run_all(chosen, arguments.rounds))


async def run_all(scenarios: Sequence[Scenario], rounds: int) -> int:
    """The exit status: 1 where a promise was broken; what the processes wrote is kept then."""
    print("".join(name.ljust(width) for name, width in COLUMNS), flush=True)
    is_broken = False
    for _ in range(rounds):
        for scenario in scenarios:
            home = Path(tempfile.mkdtemp(prefix="chaos-"))
            try:
                row = await perform(scenario, home)
            except LeftOutError as error:
                print(f"{scenario.name}: left out, {error}", flush=True)
                shutil.rmtree(home)
                continue
            except Exception as error:  # noqa: BLE001  # A scenario that fails is one line of the table.
                print(f"{scenario.name}: failed\n{''.join(traceback.format_exception(error))}  its files: {home}")
                is_broken = True
                continue
            print("\n".join(lines(row)), flush=True)
            if row.findings.problems:
                print(f"  its files: {home}", flush=True)
                is_broken = True
            else:
                shutil.rmtree(home)
    return 1 if is_broken else 0


def lines(row: Row) -> Iterator[str]:
    """The row as the table has it, and below it each broken promise."""
    found = row.findings
    cells = (
        row.scenario,
        str(found.turns),
        str(found.lost),
        str(found.repeated_events),
        str(found.calls_begun_twice),
        f"{row.silence_s:.1f} s",
        f"{row.longest_wait_s:.1f} s",
        "" if row.recovery_s is None else f"{row.recovery_s:.1f} s",
        str(row.restarts),
    )
    yield "".join(cell.ljust(width) for cell, (_, width) in zip(cells, COLUMNS, strict=True))
    yield from (f"  BROKEN: {problem}" for problem in found.problems)


if __name__ == "__main__":
    sys.exit(main())
