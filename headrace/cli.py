"""The command `headrace`: its commands, its global options, and its exit status."""

import asyncio
import inspect
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import structlog
from cyclopts import App, CycloptsError, Group, Parameter

from headrace.commands.agents import agents
from headrace.commands.broadcast import broadcast
from headrace.commands.budgets import budgets
from headrace.commands.chat import chat
from headrace.commands.demo import demo
from headrace.commands.dev import dev
from headrace.commands.dlq import dlq
from headrace.commands.doctor import doctor
from headrace.commands.gateway import gateway
from headrace.commands.keys import keys
from headrace.commands.migrate import migrate
from headrace.commands.project import project
from headrace.commands.quarantine import quarantine
from headrace.commands.rebuild import rebuild
from headrace.commands.replay import replay
from headrace.commands.send import send
from headrace.commands.simulate_model import simulate_model
from headrace.commands.tail import tail
from headrace.commands.topics import topics
from headrace.commands.trace import trace
from headrace.commands.worker import worker
from headrace.context import Context
from headrace.errors import HeadraceError, UsageError
from headrace.output import print_error
from headrace.stack.errors import StackError
from headrace.versions import installed_version
from projections.errors import ProjectionError
from runtime.settings import SettingsError

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

HELP = """LLM agents as a stream-processing pipeline: a message that was accepted is answered, once.

Begin with `headrace dev` in one terminal and `headrace chat` in another. Settings come from headrace.toml, from
HEADRACE_… variables and from options, each overriding the one before. Where a program reads the output, it is JSON
lines. Exit status: 0 done, 1 failed, 2 wrong usage or settings."""

app = App(
    name="headrace", help=HELP, version=lambda: f"headrace {installed_version('headrace')}", help_format="markdown"
)
app.meta.group_parameters = Group("Global options", sort_key=100)

app.command(dev)
app.command(demo)
app.command(worker)
app.command(topics)
app.command(send)
app.command(broadcast)
app.command(chat)
app.command(tail)
app.command(agents)
app.command(dlq)
app.command(quarantine)
app.command(replay)
app.command(trace)
app.command(budgets)
app.command(project)
app.command(migrate)
app.command(gateway)
app.command(keys)
app.command(rebuild)
app.command(simulate_model)
app.command(doctor)


@app.meta.default
def _run(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Path | None = None,
    brokers: str | None = None,
    topic_prefix: str | None = None,
    data_dir: Path | None = None,
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Take the global options, wherever they stand, and run the command.

    Parameters
    ----------
    config
        TOML file with settings; by default headrace.toml in this folder, where there is one.
    brokers
        host:port of the Kafka or Redpanda brokers, with commas between; by default those of the stack that `headrace
        dev` runs, else 127.0.0.1:9092.
    topic_prefix
        What the names of the topics begin with; by default nothing.
    data_dir
        Folder for state; by default headrace in the user's data folder (XDG_DATA_HOME).
    json
        Print JSON lines, as is done where stdout is not a terminal.
    """
    # What aiokafka would log about a broker that does not answer is said by our own error; a worker sets its own level.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    # Programs read the output. Looked up each time: tests have a stderr of their own.
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    command, bound, ignored = app.parse_args(tokens, exit_on_error=False, print_error=False)
    if "context" in ignored:
        options = {"config": config, "brokers": brokers, "topic_prefix": topic_prefix, "data_dir": data_dir}
        bound.arguments["context"] = Context(options=options, json_asked=json)
    result: Any = command(*bound.args, **bound.kwargs)
    if inspect.iscoroutine(result):
        result = asyncio.run(result)
    return result if isinstance(result, int) else 0


def run(tokens: list[str]) -> int:
    """Run the command with these arguments; returns its exit status."""
    try:
        status: int = app.meta(tokens, result_action="return_value", exit_on_error=False, print_error=False) or 0
        sys.stdout.flush()
    except CycloptsError as error:
        print_error(f"{' '.join(str(error).split())} See `headrace --help`.")
        return EXIT_USAGE
    except (SettingsError, UsageError) as error:
        print_error(str(error))
        return EXIT_USAGE
    except (HeadraceError, StackError, ProjectionError) as error:
        print_error(str(error))
        return EXIT_FAILURE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has read enough, as in `headrace tail … | head`. Python would complain about the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def main() -> None:
    """The entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
