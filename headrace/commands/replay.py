"""`headrace replay`."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from headrace.commands import GlobalContext
from headrace.errors import UsageError
from headrace.output import console, print_error, print_json

if TYPE_CHECKING:
    from headrace.context import Context
    from headrace.replay.begin import Beginning
    from headrace.replay.recording import Recording
    from headrace.replay.show import Line

Flag = Annotated[bool, Parameter(negative="", show_default=False)]


async def replay(
    session: str | None = None,
    *,
    until: str | None = None,
    diff: Flag = False,
    export: Path | None = None,
    file: Path | None = None,
    context: GlobalContext,
) -> int:
    """Fold a session's log again, and show what each fact changed, ordered and emitted.

    It reads the brokers and writes nothing to them, with the agents and tools of these settings.

    Example: `headrace replay s1 --until s1/2/1`

    Parameters
    ----------
    session
        The session; with --file, the one that the recording is of.
    until
        Stop there, and show the whole state with the prompt of a pending model call: an offset of the log (12), an
        agent event (seq:7), a time (2026-05-01T12:00:00Z), or a call (s1/2/1).
    diff
        Compare the agent events of the fold with those on agent-events; exit status 1 where they differ.
    export
        Write a recording to this file; it has what was said, and what the agents are told.
    file
        Read a recording instead of the brokers.
    """
    if until is not None and (diff or export is not None):
        raise UsageError("expected --until without --diff and --export, which are about the whole log")
    recording, beginning = await _read(session, file, context)
    if beginning.missing is not None:
        print_error(beginning.missing)
    if export is not None:
        _export(recording, beginning, export, context)
    if diff:
        return _show_differences(recording, beginning, context)
    if export is None:
        _show(recording, beginning, until, context)
    return 0


async def _read(session: str | None, file: Path | None, context: "Context") -> "tuple[Recording, Beginning]":
    from headrace.replay.begin import find_beginning
    from headrace.replay.recording import read_recording

    if file is not None:
        recording = read_recording(file)
        if session not in {None, recording.about.session_id}:
            raise UsageError(f"expected session {recording.about.session_id}, which {file} is of, got {session}")
    elif session is None:
        raise UsageError("expected a session, as in `headrace replay s1`, or a recording with --file")
    else:
        from headrace.replay.source import read_session

        recording = await read_session(context.client_settings(), session)
    return recording, find_beginning(recording)


def _show(recording: "Recording", beginning: "Beginning", until: str | None, context: "Context") -> None:
    from headrace.replay.fold import fold
    from headrace.replay.show import as_lines, as_object, state_lines, state_object
    from headrace.replay.until import facts_until, moments_until, parse_until

    place = None if until is None else parse_until(until, recording.about.session_id)
    facts = facts_until(recording.facts, place)
    session = None
    for moment in moments_until(fold(recording, facts, seed=beginning.seed, begin=beginning.offset), place):
        session = moment.after
        if context.json:
            print_json(as_object(moment))
        else:
            _print(as_lines(moment))
    if place is None:
        return
    if context.json:
        print_json(state_object(recording.about, session))
    else:
        console().print()
        _print(state_lines(recording.about, session))


def _export(recording: "Recording", beginning: "Beginning", file: Path, context: "Context") -> None:
    from headrace.replay.export import recorded
    from headrace.replay.recording import write_recording

    write_recording(file, recorded(recording, beginning))
    if not context.json:
        console().print(f"{file}: {len(recording.facts)} facts, {len(recording.events)} events", markup=False)


def _show_differences(recording: "Recording", beginning: "Beginning", context: "Context") -> int:
    from headrace.replay.compare import about_versions, compare
    from headrace.replay.fold import fold
    from headrace.replay.show import comparison_lines

    moments = fold(recording, seed=beginning.seed, begin=beginning.offset)
    comparison = compare(recording, moments, is_whole=beginning.missing is None)
    if context.json:
        print_json(comparison)
    else:
        _print(comparison_lines(comparison))
    if comparison.differences:
        print_error(about_versions(recording.about))
        return 1
    return 0


def _print(lines: "Iterable[Line]") -> None:
    for line in lines:
        console().print(line.first, style=line.style, markup=False, end=" " if line.rest else "\n")
        if line.rest:
            console().print(line.rest, markup=False)
