"""The version of the core: what tells a log that is folded otherwise today from one that was damaged.

The core is all that `agents.handle.handle` takes its outcome from. A change after which some log leads to another
state, effect or agent event gets the next number here, with one line that says what changed.
"""

CORE_VERSIONS: dict[int, str] = {
    1: "the first version that recordings name",
    2: "an outcome of a model call counts once in the session's usage; one that the core did not order, never",
    3: "turns and tool orders name user and tenant; decisions about approvals are agent events, and approvals expire",
    4: "a call that waits for people stays one of the agent that made it, also where that one hands over meanwhile",
    5: "budgets count model calls, and a shared budget can refuse one",
    6: "what a pattern asks has the images of its message",
    7: "a tool call is that of the agent that made it in its order too, also where that one hands over meanwhile",
}
CORE_VERSION = max(CORE_VERSIONS)
