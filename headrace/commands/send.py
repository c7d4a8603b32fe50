"""`headrace send`."""

import sys
from typing import Annotated

from cyclopts import Parameter

from headrace.commands import GlobalContext
from headrace.errors import UsageError
from headrace.output import console, print_json, print_json_bytes

DEFAULT_WAIT_S = 600.0


async def send(
    session: str,
    *text: str,
    agent: str | None = None,
    id: str | None = None,
    wait: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    timeout_s: Annotated[float, Parameter(name="--timeout")] = DEFAULT_WAIT_S,
    context: GlobalContext,
) -> int:
    """Send a message to a session; with `--wait`, print its answer.

    Example: `headrace send s1 "What is 17 * 23?" --wait`

    Parameters
    ----------
    session
        The conversation; a new one begins with its first message. 1 to 200 characters without spaces.
    text
        The message; without it, stdin is read.
    agent
        Who answers; by default the session's agent, or the default one.
    id
        Identifies the message: sent twice with the same id, it is answered once. By default a random one.
    wait
        Wait for the answer and print it; exit status 1 when the turn failed or was cancelled.
    timeout_s
        How long to wait, in seconds.
    """
    from headrace.client import Headrace
    from schemas.codec import encode
    from schemas.events import TurnCompleted, TurnFailed

    content = " ".join(text) or _stdin()
    async with Headrace.of(context.client_settings()) as headrace:
        if not wait:
            sent = await headrace.send(session, content, id=id, agent=agent)
            if context.json:
                print_json(sent)
            else:
                console().print(f"sent {sent.id} (partition {sent.partition}, offset {sent.offset})", markup=False)
            return 0
        end = await headrace.ask(session, content, timeout_s=timeout_s, id=id, agent=agent)
    if context.json:
        print_json_bytes(encode(end))
    elif isinstance(end, TurnCompleted):
        console().print(end.text, markup=False)
    elif isinstance(end, TurnFailed):
        console().print(f"failed ({end.error.code}): {end.error.message}", style="red", markup=False)
    else:
        console().print(f"cancelled: {end.reason or 'no reason given'}", style="yellow", markup=False)
    return 0 if isinstance(end, TurnCompleted) else 1


def _stdin() -> str:
    if sys.stdin.isatty():
        raise UsageError('expected a text: headrace send SESSION "TEXT", or the text on stdin')
    return sys.stdin.read().strip()
