"""Fields that several records have: each type with the sentence that the documents say about it.

The constraints of what comes from outside are where commands are; what Headrace itself writes is not constrained again.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta

from schemas.content import AssistantBlock, UserBlock
from schemas.failure import Failure

# When.
EventTime = Annotated[
    datetime, Meta(description="When it happened: the `at` of the fact in `session-log` that led to it.")
]
FactTime = Annotated[datetime, Meta(description="When the fact became one, from the clock of whoever recorded it.")]
SentTime = Annotated[datetime, Meta(description="The timestamp of the command's record.")]
IdleSince = Annotated[datetime, Meta(description="Nothing happened to the session since then.")]
ExpiryTime = Annotated[
    datetime, Meta(description="From then on it is refused; without a time zone, it is read as UTC.")
]

# Where in a session.
EventSeq = Annotated[int, Meta(description="Counts the session's events from 1 without a gap; drop one that was seen.")]
FrameSeq = Annotated[int, Meta(description="Counts the frames of one attempt from 0.")]
StepNumber = Annotated[int, Meta(description="Counts the model and tool calls of the turn from 1.")]
AttemptNumber = Annotated[int, Meta(description="Counts the attempts of the model call from 1.")]
LogOffset = Annotated[
    int,
    Meta(description="The offset in `session-log` of the fact that gave the order; the session is read as of there."),
]
SpecsOffset = Annotated[
    int, Meta(description="How far `agent-specs` was read when the message was accepted: its turn has those agents.")
]

# Who, and what they said about it.
WantedAgent = Annotated[
    str, Meta(description="The agent that the message names; without one, that of the session, or the default one.")
]
TurnAgent = Annotated[str, Meta(description="The agent whose turn it is.")]
CallingAgent = Annotated[
    str, Meta(description="The agent that called the tool, also where it has passed the conversation on since.")
]
GivenUserId = Annotated[str, Meta(description="Who the user is, as the message said.")]
GivenTenant = Annotated[str, Meta(description="Whose user it is, as the message said.")]
GivenMetadata = Annotated[
    dict[str, str], Meta(description="The sender's own names and values, as the message had them.")
]
GivenReason = Annotated[str, Meta(description="Why, in the words of whoever asked for it; empty where they gave none.")]
GivenBy = Annotated[str, Meta(description="Who asked for it, as the command said.")]
WaitsUntil = Annotated[datetime, Meta(description="When the wait is over: what was not decided by then is denied.")]
NeededApprovals = Annotated[int, Meta(description="How many different people must approve.")]
Approvers = Annotated[tuple[str, ...], Meta(description="Who may decide, as `by` of the decision; none: anybody.")]
BudgetScope = Annotated[
    Literal["turn", "session", "asked", "message", "agent", "user", "tenant", "all"],
    Meta(
        description="Whose limit: of the turn, of its session, what the asking session left for this one, or what the "
        "message says; or of a day, shared by all sessions of the agent, the user, the tenant, or by all there are."
    ),
]
SharedBudgetName = Annotated[
    str, Meta(description="The shared budget, by its name; missing where it is no shared one.")
]
CountedLocally = Annotated[
    bool,
    Meta(description="Whether the shared count did not answer, so that the worker went by its share of what was left."),
]
ExceededBudgets = Annotated[
    tuple[str, ...],
    Meta(description="Limits of shared budgets, `{budget}_{unit}`, that count twice for this call."),
]
CountedIn = Annotated[
    tuple[str, ...],
    Meta(description="The accounts of shared budgets that the call counts in: `{budget}/{day}` and whose it is."),
]
ExpiresSeconds = Annotated[int, Meta(description="How long people have to decide, in seconds.")]
BudgetUnit = Annotated[
    Literal["micros", "tokens", "calls"],
    Meta(description="What is counted: micro-dollars (0.000001 USD), tokens, or calls of a model."),
]
BudgetLimit = Annotated[int, Meta(description="The limit, in `unit`.")]
BudgetSpent = Annotated[
    int, Meta(description="What was spent of it, with what asked agents took; of a shared one, by everybody today.")
]
BudgetReserved = Annotated[
    int,
    Meta(
        description="What the next call may take: as much as the dearest so far, or a setting; of a shared budget, "
        "with what calls may take that are under way."
    ),
]
BudgetAction = Annotated[
    Literal["stop", "ask", "cheaper"],
    Meta(description="`stop`: the turn fails; `ask`: it waits for an approval; `cheaper`: another model goes on."),
]
AskedAgent = Annotated[str, Meta(description="The agent that goes on from here.")]
ChildSession = Annotated[
    str, Meta(description="The session in which the asked agent answers; where it is missing, the call is a tool's.")
]
ReplySession = Annotated[str, Meta(description="The session in which the agent answers the broadcast.")]
ReplyText = Annotated[str, Meta(description="The whole answer, or why there is none.")]
AskedTokens = Annotated[int, Meta(description="All tokens of the asked agent's turn, and of those that it asked.")]
AskedCalls = Annotated[
    int, Meta(description="How often the asked agent called its model, and those that it asked; 0: its asker asks not.")
]
AskedCost = Annotated[
    int, Meta(description="What the asked agent's turn cost, in micro-dollars, and those of the agents that it asked.")
]
ChildCost = Annotated[int, Meta(description="What asked agents cost, in micro-dollars, besides `cost_micros`.")]
Decision = Annotated[
    Literal["approve", "deny"],
    Meta(description="`approve` lets the tool call run; `deny` tells the model that it was denied."),
]
DecidedHow = Annotated[
    Literal["approve", "deny", "expired"],
    Meta(description="What was decided; `expired`: nobody decided in time, which is a denial."),
]
ChangedInput = Annotated[
    dict[str, Any],
    Meta(description="With `approve`: the arguments to call the tool with instead of the model's."),
]
Remaining = Annotated[int, Meta(description="How many more people must approve; 0: it is decided.")]
Traceparent = Annotated[str, Meta(description="The W3C trace that the message belongs to.")]

# What was said.
MessageContent = Annotated[tuple[UserBlock, ...], Meta(description="The message; a `text` is one block.")]
AnswerContent = Annotated[
    tuple[AssistantBlock, ...],
    Meta(description="What the model wrote, block by block, with the tools that it asks for."),
]
AnswerText = Annotated[str, Meta(description="The whole answer.")]
DeltaText = Annotated[str, Meta(description="The next piece of the answer, to be put behind those before.")]
StopReason = Annotated[
    str, Meta(description="Why the model stopped, in the provider's word; `max_tokens`: cut off at its output limit.")
]

# Calls and their outcome.
CallModelName = Annotated[str, Meta(description="The model that was called.")]
OtherModel = Annotated[str, Meta(description="The model to call, where it is not the agent's own.")]
ToolOfCall = Annotated[str, Meta(description="The tool's name, as the model wrote it.")]
ToolResult = Annotated[str, Meta(description="What the model is told as the tool's result.")]
IsError = Annotated[bool, Meta(description="Whether the result is an error or a denial, which the model can act on.")]
TimeLeft = Annotated[
    int, Meta(description="What the turn's time limit leaves for the call, in milliseconds from when its work begins.")
]
AttemptCount = Annotated[int, Meta(description="How often it was tried; 0 where it failed before the first attempt.")]
CallTime = Annotated[int, Meta(description="How long the call took, with all its attempts, in milliseconds.")]
RequestId = Annotated[str, Meta(description="The provider's id of the request that succeeded, for its support.")]
CallFailure = Annotated[Failure, Meta(description="Why the call failed.")]
TurnError = Annotated[Failure, Meta(description="Why there is no answer.")]
