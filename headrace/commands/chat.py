"""`headrace chat`."""

from typing import Annotated

from cyclopts import Parameter

from headrace.commands import GlobalContext

DEFAULT_TURN_TIMEOUT_S = 600.0


def chat(
    session: str | None = None,
    *,
    agent: str | None = None,
    timeout_s: Annotated[float, Parameter(name="--timeout")] = DEFAULT_TURN_TIMEOUT_S,
    context: GlobalContext,
) -> int:
    """Talk with an agent: its answer appears as it is written, its tool calls as they run.

    Ctrl-C cancels the running turn, at the prompt it ends the chat; so does Ctrl-D. Where stdin is not a terminal, each
    line is a message, and the chat ends with the last answer. With `--json`, events and deltas are printed as JSON
    lines.

    Example: `headrace chat s1`, or `echo "What time is it in Lima?" | headrace chat`

    Parameters
    ----------
    session
        The conversation, to go on with one; by default a new one.
    agent
        Who answers; by default the session's agent, or the default one.
    timeout_s
        How long to wait for the end of a turn, in seconds.
    """
    from headrace.conversation import converse

    return converse(
        context.client_settings(), session=session, agent=agent, timeout_s=timeout_s, json=context.json_asked
    )
