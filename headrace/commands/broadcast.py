"""`headrace broadcast`."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from headrace.commands import GlobalContext
from headrace.errors import UsageError
from headrace.output import console, print_json, print_json_bytes
from schemas.events import BroadcastCompleted
from schemas.gather import Audience, AudienceOf, Quorum

DEFAULT_DEADLINE_S = 600
_GATHER = re.compile(r"none|first|all|quorum:([1-9][0-9]{0,2})")


@Parameter(name="*")
@dataclass(frozen=True)
class Reach:
    """Whom it reaches, whose it is, and what it may cost."""

    to: Annotated[tuple[str, ...], Parameter(negative="")] = ()
    """The agents that are to answer, by name; by default all of them."""
    capability: str | None = None
    """Instead of names: the agents that have this capability."""
    sender: str | None = None
    """Who sends it."""
    tenant: str | None = None
    """Whose broadcast it is: it reaches everybody's agents, and this tenant's."""
    budget_micros: int | None = None
    """What all agents together may spend on it, in micro-dollars; each has an equal share."""


ALL = Reach()


async def broadcast(
    *text: str,
    reach: Reach = ALL,
    gather: str = "none",
    deadline: int = DEFAULT_DEADLINE_S,
    reply_to: str | None = None,
    id: str | None = None,
    context: GlobalContext,
) -> int:
    """Send a message to many agents; with `--gather`, print what they replied.

    Example: `headrace broadcast "Who can translate this?" --gather quorum:2 --deadline 30`

    Parameters
    ----------
    text
        The message.
    gather
        How many replies to wait for: `none`, the `first` answer, `all` agents, or `quorum:N` answers. Exit status 1
        when fewer came.
    deadline
        With `--gather`: when to end with what there is, in seconds.
    reply_to
        With `--gather`: a session that what was gathered is sent to as well.
    id
        Identifies the broadcast: sent twice with the same id, it is answered once. By default a random one.
    """
    from headrace.client import BroadcastFields, Headrace
    from schemas.codec import encode

    content = " ".join(text)
    if not content:
        raise UsageError('expected a text: headrace broadcast "TEXT"')
    audience = _audience(reach)
    said: BroadcastFields = {
        "id": id,
        "sender": reach.sender,
        "tenant": reach.tenant,
        "budget_micros": reach.budget_micros,
    }
    count = _quorum(gather)
    async with Headrace.of(context.client_settings()) as headrace:
        if gather == "none":
            sent = await headrace.broadcast(content, audience, **said)
            if context.json:
                print_json(sent)
            else:
                console().print(f"sent {sent.id} (partition {sent.partition}, offset {sent.offset})", markup=False)
            return 0
        mode: Literal["first", "all"] = "first" if gather == "first" else "all"
        said["gather"] = mode if count is None else Quorum(quorum=count)
        said["deadline"], said["reply_to"] = deadline, reply_to
        completed = await headrace.gather(content, audience, timeout_s=deadline, **said)
    if context.json:
        print_json_bytes(encode(completed))
    else:
        _show(completed)
    return int(completed.reason != "gathered")


def _show(completed: BroadcastCompleted) -> None:
    for reply in completed.replies:
        console().print(f"{reply.agent}:", style="red" if reply.is_error else "bold", markup=False)
        console().print(reply.content, markup=False)
    missing = f"; no reply from {', '.join(completed.missing)}" if completed.missing else ""
    console().print(f"{completed.reason}: {len(completed.replies)} replies{missing}", style="dim", markup=False)


def _audience(reach: Reach) -> Audience:
    if reach.to and reach.capability:
        raise UsageError("expected `--to` or `--capability`, got both: leave one out")
    return AudienceOf(capability=reach.capability) if reach.capability else reach.to or "all"


def _quorum(gather: str) -> int | None:
    found = _GATHER.fullmatch(gather)
    if found is None:
        raise UsageError(f"expected `--gather` to be none, first, all or quorum:N, got `{gather[:40]}`")
    return None if found[1] is None else int(found[1])
