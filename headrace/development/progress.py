"""What the development stack tells while it starts, runs and stops: to a person, to a log, or to a program."""

import sys
import time
from collections.abc import Mapping
from typing import Literal, Protocol, TextIO

import msgspec
from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text

from headrace.stack.process import Exit

State = Literal["starting", "ready", "restarting", "stopping", "stopped"]

_SIGNS: Mapping[State, tuple[str, str]] = {
    "starting": ("…", "dim"),
    "ready": ("✓", "green"),
    "restarting": ("↻", "yellow"),
    "stopping": ("…", "dim"),
    "stopped": ("■", "dim"),
}
COMPONENT_WIDTH = 10


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to one component; `seconds` since its start, or its stop, began."""

    component: str
    state: State
    detail: str = ""
    seconds: float


class Reporter(Protocol):
    """Takes the steps; `settle` is called when the start has ended, well or not."""

    def step(self, step: Step) -> None: ...

    def settle(self) -> None: ...


class Steps:
    """Tells the reporter what happens to each component, with the seconds since it began."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._began: dict[str, float] = {}

    def begin(self, component: str, detail: str = "", state: State = "starting") -> None:
        """From now on its seconds count."""
        self._began[component] = time.monotonic()
        self.tell(component, state, detail)

    def tell(self, component: str, state: State, detail: str = "") -> None:
        seconds = round(time.monotonic() - self._began[component], 2)
        self._reporter.step(Step(component=component, state=state, detail=detail, seconds=seconds))

    def restarting(self, component: str, end: Exit) -> None:
        self.begin(component, f"{end}; starting it again", state="restarting")


class JsonLines:
    """One JSON object per step, on standard output."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout

    def step(self, step: Step) -> None:
        self._stream.write(msgspec.json.encode(step).decode() + "\n")
        self._stream.flush()

    def settle(self) -> None:
        pass


class PlainLines:
    """A line per step."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def step(self, step: Step) -> None:
        self._console.print(_line(step), soft_wrap=True)

    def settle(self) -> None:
        pass


class LiveLines:
    """A line per component with a spinner and its seconds while it starts; after that, a line per step."""

    def __init__(self, console: Console) -> None:
        self._plain = PlainLines(console)
        columns = (
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn(f"{{task.description:<{COMPONENT_WIDTH}}}"),
            _Seconds(),
            TextColumn("[dim]{task.fields[detail]}"),
        )
        self._live: Progress | None = Progress(*columns, console=console)
        self._live.start()
        self._tasks: dict[str, TaskID] = {}

    def step(self, step: Step) -> None:
        if self._live is None or step.state in ("stopping", "stopped"):
            self.settle()
            self._plain.step(step)
            return
        if step.component not in self._tasks:
            self._tasks[step.component] = self._live.add_task(step.component, total=1, detail=step.detail)
        completed = 1 if step.state == "ready" else 0
        self._live.update(self._tasks[step.component], completed=completed, detail=step.detail)

    def settle(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


class UntilSettled:
    """Passes on the steps of the start, and none that come after it."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter: Reporter | None = reporter

    def step(self, step: Step) -> None:
        if self._reporter is not None:
            self._reporter.step(step)

    def settle(self) -> None:
        if self._reporter is not None:
            self._reporter.settle()
            self._reporter = None


class _Seconds(ProgressColumn):
    """Seconds since the component's start, or how many it took."""

    def render(self, task: Task) -> Text:
        seconds = task.finished_time if task.finished else task.elapsed
        return Text(f"{seconds or 0:5.1f} s", style="cyan")


def reporter_for(console: Console, *, json: bool) -> Reporter:
    """JSON where it is asked for, spinners where a person looks, plain lines elsewhere."""
    if json:
        return JsonLines()
    return LiveLines(console) if console.is_terminal else PlainLines(console)


def _line(step: Step) -> Text:
    sign, style = _SIGNS[step.state]
    head = f"{step.component:<{COMPONENT_WIDTH}} {step.state:<10} {step.seconds:5.1f} s"
    return Text.assemble((sign, style), f" {head}  ", (step.detail, "dim"))
