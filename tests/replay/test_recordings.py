"""Recorded sessions are folded as they were: what was promised to a session yesterday is what its log says today."""

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from replay.scenarios import SCENARIOS

from agents.session import CallKind
from agents.version import CORE_VERSION, CORE_VERSIONS
from headrace.replay.begin import find_beginning
from headrace.replay.compare import Comparison, compare
from headrace.replay.export import recorded
from headrace.replay.fold import fold
from headrace.replay.recording import Outcome, Recording, lines, read_recording
from headrace.replay.show import as_object
from schemas.codec import encode
from schemas.failure import FailureCode
from schemas.topics import AGENT_EVENTS, SESSION_LOG

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.jsonl"))
REFOLD = ".venv/bin/python tests/replay/record.py --refold"
FOLD_ALL = """
import sys
from headrace.cli import run
sys.exit(max(run(["replay", "--json", "--file", file]) for file in sys.argv[1:]))
"""
every_recording = pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])


def what_changed(recording: Recording) -> str | None:
    """What to do about a core that makes something else of a recording; None where it does not."""
    outcomes = recorded(recording, find_beginning(recording)).outcomes
    pairs = enumerate(zip_longest(recording.outcomes, outcomes))
    first = next((n for n, (old, new) in pairs if old is None or new is None or encode(old) != encode(new)), None)
    if first is None:
        return None
    version = recording.about.outcomes_of
    if version < CORE_VERSION:
        return (
            f"the outcomes are those of version {version} of the core, and this is {CORE_VERSION}, which makes "
            f"something else of them: run `{REFOLD}`, read the diff of the recordings, and commit them"
        )
    before, after = (_told(outcomes[first : first + 1]) for outcomes in (recording.outcomes, outcomes))
    return (
        f"the core makes something else of the fact at offset {recording.facts[first].offset} than what was recorded.\n"
        f"recorded: {before}\nnow:      {after}\n"
        "Where that was not meant, correct the core. Where it was:\n"
        f"1. add version {CORE_VERSION + 1} to CORE_VERSIONS in agents/version.py; its line says what changed;\n"
        f"2. run `{REFOLD}`, which writes the new outcomes, and read the diff of the recordings;\n"
        "3. commit both."
    )


def _told(outcomes: tuple[Outcome, ...]) -> str:
    return encode(outcomes[0]).decode() if outcomes else "nothing"


@every_recording
def test_a_recorded_session_is_folded_as_it_was(path: Path) -> None:
    """State, effects, agent events and refusals after each fact, byte for byte."""
    changed = what_changed(read_recording(path))
    if changed is not None:
        pytest.fail(f"{path.name}: {changed}", pytrace=False)


@every_recording
def test_a_recorded_session_emitted_what_the_fold_emits(path: Path) -> None:
    """All that was on `agent-events`, and nothing else; but for a core that was another one."""
    recording = read_recording(path)
    if recording.about.made_with != CORE_VERSION:
        pytest.skip(f"made with version {recording.about.made_with} of the core")
    comparison = compare(recording, fold(recording))
    assert comparison.same == sum(len(outcome.events) for outcome in recording.outcomes)
    assert replace(comparison, repeated=0) == Comparison(same=comparison.same)


@every_recording
def test_a_recording_names_its_core(path: Path) -> None:
    """The core that made it is known, and its outcomes are of the core of today: `--refold` writes them."""
    about = read_recording(path).about
    assert about.made_with in CORE_VERSIONS
    assert about.outcomes_of == CORE_VERSION, f"{path.name}: run `{REFOLD}` and commit what it writes"


def test_versions_have_no_gap() -> None:
    """Each says what it changed."""
    assert list(CORE_VERSIONS) == list(range(1, CORE_VERSION + 1))
    assert all(CORE_VERSIONS.values())


def test_a_change_of_the_core_is_found_and_told() -> None:
    """Whoever changes the core by mistake learns where, and whoever means it learns what to do."""
    recording = read_recording(HERE / "tool.jsonl")
    other = replace(recording.outcomes[2], state="0" * 64)
    changed = replace(recording, outcomes=(*recording.outcomes[:2], other, *recording.outcomes[3:]))
    said = what_changed(changed)
    assert said is not None
    assert f"offset {recording.facts[2].offset}" in said
    assert f"add version {CORE_VERSION + 1} to CORE_VERSIONS in agents/version.py" in said
    older = what_changed(replace(changed, about=replace(recording.about, outcomes_of=CORE_VERSION - 1)))
    assert older is not None
    assert REFOLD in older
    assert what_changed(replace(recording, outcomes=recording.outcomes[:-1])) is not None
    assert what_changed(recording) is None


def test_every_scenario_is_recorded() -> None:
    """And no recording is left whose scenario is gone."""
    names = {path.stem.rstrip("0123456789").rstrip("-") for path in FILES}
    assert names == set(SCENARIOS)


def test_the_recordings_have_all_that_can_happen() -> None:
    """Every fact, every agent event, every way to wait, every limit, a quarantine and an unknown outcome."""
    facts: set[type] = set()
    events: set[type] = set()
    waits: set[CallKind] = set()
    codes: set[FailureCode] = set()
    for path in FILES:
        for moment in fold(read_recording(path)):
            facts.add(type(moment.event))
            turn = moment.after.head.turn if moment.after else None
            waits |= {call.kind for call in turn.pending} if turn else set()
            events |= {type(event) for event in moment.step.events}
            codes |= set(_codes(moment.event)) | {code for event in moment.step.events for code in _codes(event)}
    add = "add it to a scenario of tests/replay/scenarios.py, and record that"
    missing = {*SESSION_LOG.records, *AGENT_EVENTS.records, type(None)} - facts - events
    assert not missing, f"no recording has {missing}: {add}"
    assert waits == set(CallKind), add
    limits = {code for code in FailureCode if code.startswith("limit_")}
    rest = {FailureCode.SESSION_QUARANTINED, FailureCode.SESSION_ENDED, FailureCode.OUTCOME_UNKNOWN}
    assert codes >= limits | rest, f"{add}: {limits | rest - codes}"


def _codes(record: object) -> Iterator[FailureCode]:
    for name in ("failure", "error"):
        failure = getattr(record, name, None)
        if failure is not None:
            yield failure.code


# The same everywhere


@every_recording
def test_a_recording_is_folded_twice_to_the_same_bytes(path: Path) -> None:
    """Within one process, from one reading and from two."""
    recording = read_recording(path)
    once, twice, again = (
        [encode(as_object(moment)) for moment in fold(one)] for one in (recording, recording, read_recording(path))
    )
    assert once == twice == again
    (header, *rest), (old_header, *old_rest) = lines(recording), path.read_bytes().split(b"\n")[:-1]
    assert rest == old_rest
    assert _has(msgspec.json.decode(header), msgspec.json.decode(old_header)), "more fields may come, with defaults"


def _has(new: object, old: object) -> bool:
    """Whether all that `old` says is said by `new`; of objects, `new` may have more fields."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(name in new and _has(new[name], value) for name, value in old.items())
    return new == old


def test_other_processes_fold_to_the_same_bytes() -> None:
    """Whatever the seed of their hashes, their time zone and their locale."""
    machines = (
        {"PYTHONHASHSEED": "1", "TZ": "Pacific/Kiritimati", "LC_ALL": "C"},
        {"PYTHONHASHSEED": "2", "TZ": "America/St_Johns", "LC_ALL": "C.UTF-8", "PYTHONOPTIMIZE": "1"},
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FOLD_ALL, *map(str, FILES)],
            env={**os.environ, **machine},
            cwd=HERE.parent.parent,
            stdout=subprocess.PIPE,
        )
        for machine in machines
    ]
    first, second = (process.communicate(timeout=60)[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert first == second
    here = b"".join(encode(as_object(moment)) + b"\n" for path in FILES for moment in fold(read_recording(path)))
    assert first == here
