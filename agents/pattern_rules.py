"""What an agent with a pattern does next: a pure function of its message and of what it was answered so far."""

from collections import Counter
from collections.abc import Sequence
from typing import assert_never

from msgspec import Struct

from agents.patterns import Chain, Evaluate, Loop, Parallel, Pattern, Route, Vote, is_found, plain

MAX_ROUND_BYTES = 1 << 20
"""Of all messages that are asked at once: they are in one record, which may have four times as much."""


class Answer(Struct, frozen=True):
    """What an agent answered, or why it did not."""

    agent: str
    content: str
    is_error: bool = False


class Ask(Struct, frozen=True):
    """Ask an agent; what is decided at once is asked at once."""

    agent: str
    message: str


class Say(Struct, frozen=True):
    """The answer of the turn."""

    text: str


class Stop(Struct, frozen=True):
    """There is no answer: the turn fails, and `why` names the step."""

    why: str


Round = tuple[Answer, ...]
Decision = tuple[Ask, ...] | Say | Stop


def decide(pattern: Pattern, message: str, rounds: Sequence[Round]) -> Decision:
    """What comes next.

    Args:
        pattern: of the agent.
        message: what the turn answers.
        rounds: what was asked so far, oldest first, each round with all its answers in the order of its asks.
    """
    if not message.strip():
        return Stop("expected a message with a text, which is what its agents are asked, got none: send one")
    decision = _decide(pattern, message, rounds)
    if isinstance(decision, tuple):
        size = sum(len(ask.message.encode(errors="surrogatepass")) for ask in decision)
        if size > MAX_ROUND_BYTES:
            names = ", ".join(f"`{name}`" for name in dict.fromkeys(ask.agent for ask in decision))
            return Stop(f"expected at most {MAX_ROUND_BYTES} bytes to ask {names} at once, got {size}: ask for less")
    return decision


def _decide(pattern: Pattern, message: str, rounds: Sequence[Round]) -> Decision:
    match pattern:
        case Chain():
            return _chain(pattern, message, rounds)
        case Route():
            return _route(pattern, message, rounds)
        case Parallel():
            return _parallel(pattern, message, rounds)
        case Vote():
            return _vote(pattern, message, rounds)
        case Evaluate():
            return _evaluate(pattern, message, rounds)
        case Loop():
            return _loop(pattern, message, rounds)
        case _:
            assert_never(pattern)


def _chain(pattern: Chain, message: str, rounds: Sequence[Round]) -> Decision:
    steps, done = pattern.all_steps, len(rounds)
    if rounds:
        (answer,) = rounds[-1]
        name = f"step {done} of {len(steps)} (`{answer.agent}`)"
        if answer.is_error:
            return Stop(f"{name} failed: {answer.content}")
        gate = steps[done - 1].gate
        if gate is not None and not gate.lets_pass(answer.content):
            return Stop(f"{name} was stopped by its gate: {gate.message or gate.expected}")
        message = answer.content
    return (Ask(steps[done].agent, message),) if done < len(steps) else Say(message)


def _route(pattern: Route, message: str, rounds: Sequence[Round]) -> Decision:
    if not rounds:
        return (Ask(pattern.classifier, message),)
    (answer,) = rounds[-1]
    if len(rounds) > 1:
        return (
            Stop(f"the route to `{answer.agent}` failed: {answer.content}") if answer.is_error else Say(answer.content)
        )
    if answer.is_error:
        return Stop(f"the classifier `{answer.agent}` failed: {answer.content}")
    agent = _named(pattern, answer.content) or pattern.default
    if agent is None:
        known = ", ".join(pattern.routes)
        return Stop(
            f"expected the classifier `{answer.agent}` to name one of {known}, got `{answer.content[:200]}`: correct "
            "its instructions, or give a `default`"
        )
    return (Ask(agent, message),)


def _named(pattern: Route, answer: str) -> str | None:
    """The agent of the route that the answer is, or else of the only one that it names among other words."""
    said = plain(answer)
    routes = {plain(word): agent for word, agent in pattern.routes.items()}
    if said in routes:
        return routes[said]
    named = [word for word in routes if f" {word} " in f" {said} "]
    return routes[named[0]] if len(named) == 1 else None


def _parallel(pattern: Parallel, message: str, rounds: Sequence[Round]) -> Decision:
    if not rounds:
        return tuple(Ask(agent, message) for agent in pattern.sections)
    if len(rounds) > 1:
        (joined,) = rounds[-1]
        return Stop(f"the join (`{joined.agent}`) failed: {joined.content}") if joined.is_error else Say(joined.content)
    failed = [answer for answer in rounds[0] if answer.is_error]
    if failed and (pattern.failed_sections == "stop" or len(failed) == len(rounds[0])):
        return Stop("; ".join(f"the section `{answer.agent}` failed: {answer.content}" for answer in failed))
    answers = "\n\n".join(f"## {answer.agent}\n\n{answer.content}" for answer in rounds[0] if not answer.is_error)
    if pattern.join is None:
        return Say(answers)
    return (Ask(pattern.join, f"# Task\n\n{message}\n\n# Answers\n\n{answers}"),)


def _vote(pattern: Vote, message: str, rounds: Sequence[Round]) -> Decision:
    if not rounds:
        return (Ask(pattern.agent, message),) * pattern.votes
    if len(rounds) > 1:
        (judged,) = rounds[-1]
        return Stop(f"the judge `{judged.agent}` failed: {judged.content}") if judged.is_error else Say(judged.content)
    given = [answer.content for answer in rounds[0] if not answer.is_error]
    if 2 * len(given) <= pattern.votes:
        reason = next(answer.content for answer in rounds[0] if answer.is_error)
        return Stop(f"{pattern.votes - len(given)} of {pattern.votes} votes of `{pattern.agent}` failed: {reason}")
    first = {plain(content): content for content in reversed(given)}
    counts = Counter(plain(content) for content in given)
    most = max(counts.values())
    # A Counter keeps the order in which it first saw its keys: that of the votes.
    winners = [first[vote] for vote, count in counts.items() if count == most]
    if len(winners) == 1 or pattern.judge is None:
        return Say(winners[0])
    choices = "\n\n".join(f"## Answer {number}\n\n{winner}" for number, winner in enumerate(winners, 1))
    return (Ask(pattern.judge, f"# Task\n\n{message}\n\n# Choose one of these answers\n\n{choices}"),)


def _evaluate(pattern: Evaluate, message: str, rounds: Sequence[Round]) -> Decision:
    if not rounds:
        return (Ask(pattern.generator, message),)
    (last,) = rounds[-1]
    number = (len(rounds) + 1) // 2
    if last.is_error:
        return Stop(f"round {number} of at most {pattern.max_rounds} (`{last.agent}`) failed: {last.content}")
    if len(rounds) % 2:
        return (Ask(pattern.evaluator, f"# Task\n\n{message}\n\n# Answer\n\n{last.content}"),)
    answer = rounds[-2][0].content
    if is_found(pattern.accept, last.content):
        return Say(answer)
    if number == pattern.max_rounds:
        why = f"`{last.agent}` accepted none of {number} answers; the last time it said: {last.content}"
        return Say(answer) if pattern.after_max_rounds == "answer" else Stop(why)
    again = f"# Task\n\n{message}\n\n# Your answer\n\n{answer}\n\n# What to improve\n\n{last.content}"
    return (Ask(pattern.generator, again),)


def _loop(pattern: Loop, message: str, rounds: Sequence[Round]) -> Decision:
    if not rounds:
        return (Ask(pattern.agent, message),)
    (last,) = rounds[-1]
    number = len(rounds)
    if last.is_error:
        return Stop(f"round {number} of at most {pattern.max_rounds} (`{last.agent}`) failed: {last.content}")
    if is_found(pattern.stop, last.content):
        return Say(last.content)
    if number == pattern.max_rounds:
        why = f"`{last.agent}` said nothing that matches `{pattern.stop}` in {number} rounds: raise `max_rounds`"
        return Say(last.content) if pattern.after_max_rounds == "answer" else Stop(why)
    so_far = "\n\n".join(f"## Round {index}\n\n{answer.content}" for index, (answer,) in enumerate(rounds, 1))
    return (Ask(pattern.agent, f"# Task\n\n{message}\n\n# What you have so far\n\n{so_far}"),)
