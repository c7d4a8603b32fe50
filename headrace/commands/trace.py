"""`headrace trace`."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headrace.commands import GlobalContext
from headrace.output import console, print_json

if TYPE_CHECKING:
    from headrace.trace import TracedTurn


async def trace(session: str, *, context: GlobalContext) -> int:
    """Show what a session's turns did: a tree of the agents that were asked, with times, tokens and cost.

    A turn that has not ended is `running`; its time goes on. Cost and tokens of a turn are its own model calls; where
    it asked others, the cost of all of them follows.

    Example: `headrace trace s1`

    Parameters
    ----------
    session
        The session; its children are found from it.
    """
    from headrace.trace import read_trace

    turns = await read_trace(context.client_settings(), session)
    now = datetime.now(UTC)
    for turn in turns:
        if context.json:
            print_json(turn)
        else:
            _print(turn, now)
    return 0


def _print(turn: "TracedTurn", now: datetime) -> None:
    from rich.text import Text
    from rich.tree import Tree

    def line(of: "TracedTurn") -> Text:
        colour = {"completed": "green", "gathered": "green", "running": "yellow"}.get(of.status, "red")
        return Text.assemble(
            (of.agent, "bold"), " ", (of.status, colour), f" {of.details(now)}", (f" {of.turn_id}", "dim")
        )

    def add(tree: Tree, of: "TracedTurn") -> None:
        for child in of.asked:
            add(tree.add(line(child)), child)

    tree = Tree(line(turn))
    add(tree, turn)
    console().print(tree)
