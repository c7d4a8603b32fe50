"""`headrace tail`."""

from contextlib import aclosing
from typing import Annotated

from cyclopts import Parameter

from headrace.commands import GlobalContext
from headrace.output import console, print_json


async def tail(
    topic: str,
    *,
    session: str | None = None,
    from_beginning: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    limit: int | None = None,
    context: GlobalContext,
) -> int:
    """Show the records of a topic, decoded, as they come, until Ctrl-C.

    Example: `headrace tail agent-events --session s1 --from-beginning --limit 10`

    Parameters
    ----------
    topic
        One of those that `headrace topics apply` creates, such as user-messages, session-log, agent-events,
        agent-specs, agent-directory or dead-letters.
    session
        Only the records of this session.
    from_beginning
        Begin with the oldest record that is kept; by default with the next one.
    limit
        End after so many records; by default never.
    """
    from headrace.records import as_line, as_object, body_of, find_topic, follow_topic, session_of

    settings = context.client_settings()
    shown = 0
    async with aclosing(follow_topic(settings, find_topic(topic, settings), from_beginning=from_beginning)) as records:
        async for record in records:
            body = body_of(record.value)
            if session is not None and session_of(record, body) != session:
                continue
            if context.json:
                print_json(as_object(record, body))
            else:
                place, kind, said = as_line(record, body)
                console().print(f"[dim]{place}[/] [cyan]{kind}[/] ", end="")
                console().print(said, markup=False)
            shown += 1
            if shown == limit:
                return 0
    return 0
