"""Patterns: how agents work together where no model has to decide it, as an agent's file declares them.

An agent with a pattern calls no model: `pattern_rules.decide` says whom it asks next, or its answer.
"""

from functools import cache
from typing import Annotated, Literal, assert_never

import msgspec
from msgspec import Struct

from schemas.ids import AgentName

MAX_ASKED = 100
"""Far more than a turn may ask by default; an agent that has more is a program, not a pattern."""
Expression = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]
Agents = Annotated[tuple[AgentName, ...], msgspec.Meta(min_length=2, max_length=MAX_ASKED)]
Rounds = Annotated[int, msgspec.Meta(ge=1, le=MAX_ASKED)]


class Gate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a step's answer must have for the next step to begin; else the turn fails, and says `message`.

    `contains` is a text, `matches` an expression of RE2 that is found anywhere in the answer.
    """

    contains: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)] | None = None
    matches: Expression | None = None
    message: Annotated[str, msgspec.Meta(max_length=1_000)] = ""

    def __post_init__(self) -> None:
        if (self.contains is None) == (self.matches is None):
            raise ValueError("expected a gate with either `contains` or `matches`: give one of the two")
        if self.matches is not None:
            check_expression("matches", self.matches)

    def lets_pass(self, answer: str) -> bool:
        if self.matches is not None:
            return is_found(self.matches, answer)
        return self.contains is not None and self.contains in answer

    @property
    def expected(self) -> str:
        """What did not hold, in words."""
        if self.matches is not None:
            return f"expected an answer that matches `{self.matches}`"
        return f"expected an answer that contains `{self.contains}`"


class ChainStep(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A step with a gate behind it."""

    agent: AgentName
    gate: Gate | None = None


class Chain(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="chain"):
    """One agent after the other: the first gets the message, each other one the answer before; the last one answers."""

    steps: Annotated[tuple[AgentName | ChainStep, ...], msgspec.Meta(min_length=1, max_length=MAX_ASKED)]

    @property
    def all_steps(self) -> tuple[ChainStep, ...]:
        return tuple(step if isinstance(step, ChainStep) else ChainStep(agent=step) for step in self.steps)


class Route(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="route"):
    """A classifier names one of `routes`, whose agent gets the message and answers; `default` where it names none."""

    classifier: AgentName
    routes: Annotated[
        dict[Annotated[str, msgspec.Meta(min_length=1, max_length=100)], AgentName],
        msgspec.Meta(min_length=1, max_length=MAX_ASKED),
    ]
    default: AgentName | None = None

    def __post_init__(self) -> None:
        words = [plain(word) for word in self.routes]
        if "" in words or len(set(words)) != len(words):
            raise ValueError(
                f"expected routes whose names differ by more than case and punctuation, got {list(self.routes)}: "
                "rename one"
            )


class Parallel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="parallel"):
    """All `sections` get the message at once; `join` makes one answer of theirs, or they stand one after the other."""

    sections: Agents
    join: AgentName | None = None
    failed_sections: Literal["stop", "leave_out"] = "stop"

    def __post_init__(self) -> None:
        if len(set(self.sections)) != len(self.sections):
            raise ValueError(
                f"expected each agent once in `sections`, got {list(self.sections)}: remove the repeated one, or let "
                "one agent `vote`"
            )


class Vote(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="vote"):
    """One agent answers `votes` times; the answer that most have given wins, compared without case and punctuation.

    Where several have equally many, `judge` decides, or the one that came first wins. More than half of the votes
    must not fail.
    """

    agent: AgentName
    votes: Annotated[int, msgspec.Meta(ge=2, le=MAX_ASKED)] = 3
    judge: AgentName | None = None


class Evaluate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="evaluate"):
    """`generator` answers, `evaluator` judges, until what it says matches `accept`; else its words go back."""

    generator: AgentName
    evaluator: AgentName
    accept: Expression
    max_rounds: Rounds = 3
    after_max_rounds: Literal["stop", "answer"] = "stop"

    def __post_init__(self) -> None:
        check_expression("accept", self.accept)


class Loop(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="loop"):
    """`agent` is asked again, with what it has so far, until its answer matches `stop`."""

    agent: AgentName
    stop: Expression
    max_rounds: Rounds = 10
    after_max_rounds: Literal["stop", "answer"] = "stop"

    def __post_init__(self) -> None:
        check_expression("stop", self.stop)


Pattern = Chain | Route | Parallel | Vote | Evaluate | Loop


class Needs(Struct, frozen=True):
    """How often a pattern asks at most, and in how many rounds: what is asked at once is one."""

    asks: int
    rounds: int


def asked_agents(pattern: Pattern) -> tuple[AgentName, ...]:
    """The agents that the pattern asks, each once."""
    return tuple(dict.fromkeys(name for name in _all_agents(pattern) if name is not None))


def _all_agents(pattern: Pattern) -> tuple[AgentName | None, ...]:
    match pattern:
        case Chain():
            return tuple(step.agent for step in pattern.all_steps)
        case Route():
            return (pattern.classifier, *pattern.routes.values(), pattern.default)
        case Parallel():
            return (*pattern.sections, pattern.join)
        case Vote():
            return (pattern.agent, pattern.judge)
        case Evaluate():
            return (pattern.generator, pattern.evaluator)
        case Loop():
            return (pattern.agent,)
        case _:
            assert_never(pattern)


def needs(pattern: Pattern) -> Needs:
    """What the limits of the agent must allow."""
    match pattern:
        case Chain():
            return Needs(len(pattern.steps), len(pattern.steps))
        case Route():
            return Needs(2, 2)
        case Parallel():
            more = int(pattern.join is not None)
            return Needs(len(pattern.sections) + more, 1 + more)
        case Vote():
            more = int(pattern.judge is not None)
            return Needs(pattern.votes + more, 1 + more)
        case Evaluate():
            return Needs(2 * pattern.max_rounds, 2 * pattern.max_rounds)
        case Loop():
            return Needs(pattern.max_rounds, pattern.max_rounds)
        case _:
            assert_never(pattern)


def plain(text: str) -> str:
    """The words of a text, without case, punctuation and white space around them."""
    words = "".join(letter if letter.isalnum() else " " for letter in text.casefold())
    return " ".join(words.split())


def is_found(expression: str, text: str) -> bool:
    """Whether the expression is found anywhere in the text, in time that grows with the text only."""
    return _compiled(expression).search(text) is not None  # type: ignore[attr-defined] # re2 has no types


def check_expression(field: str, expression: str) -> None:
    """Raises ValueError where it is no expression of RE2."""
    import re2  # Takes a while to import, and few agents have an expression.

    try:
        _compiled(expression)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else error.args[0]
        raise ValueError(
            f"expected `{field}` to be an expression of RE2 (no backreferences, no lookaround), got `{expression}`: "
            f"{reason}"
        ) from None


@cache
def _compiled(expression: str) -> object:
    import re2  # Takes a while to import, and few agents have an expression.

    options = re2.Options()
    options.log_errors = False
    return re2.compile(expression, options)
