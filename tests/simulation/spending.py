"""What must hold of what sessions spend: sums over the log, and limits that are looked at before each call."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import add

from msgspec import UNSET
from simulation.invariants import Topics, distinct_events, facts, fold, place_of

from agents.budget import EXCEED_BUDGET, Budget
from agents.catalog import Catalog
from agents.draft import Step
from agents.spec import AgentSpec
from schemas.asks import AskedBy
from schemas.codec import decode_dead_letter
from schemas.dead_letter import Cause
from schemas.effects import CallModel
from schemas.events import (
    AgentEvent,
    ApprovalAnswered,
    ApprovalRequested,
    BudgetExceeded,
    HandedOff,
    ToolCalled,
    TurnCancelled,
    TurnCompleted,
    TurnEnd,
    TurnFailed,
    TurnStarted,
)
from schemas.failure import FailureCode
from schemas.gather import GATHERER
from schemas.log import (
    ApprovalDecided,
    BroadcastAccepted,
    ChildEnded,
    MessageAccepted,
    ModelCompleted,
    ModelFailed,
    SessionEvent,
)
from schemas.topics import DEAD_LETTERS

UNITS = ("micros", "tokens", "calls")
Amounts = tuple[int, int, int]
"""Of each unit."""
NOTHING: Amounts = (0, 0, 0)


@dataclass(slots=True)
class Limit:
    """One that holds for a turn, and how it stands; `allowed` is twice the limit where it was raised."""

    name: str
    unit: int
    allowed: int
    spent: int
    reserved: int


@dataclass(slots=True)
class TurnBook:
    """What a turn has spent, and what it may."""

    turn_id: str
    agent: str
    specs_offset: int
    asked_by: AskedBy | None
    budget_micros: int | None
    own: Amounts = NOTHING
    asked: Amounts = NOTHING
    raised: set[str] = field(default_factory=set)
    breaches: list[tuple[str, str]] = field(default_factory=list)
    waits: dict[str, str] = field(default_factory=dict)
    """The limits that people are asked about, by call."""
    excess: Amounts = NOTHING
    """By what a call took more than was reserved for it, or an asked agent than its share."""
    shares: dict[str, Amounts] = field(default_factory=dict)
    is_handed_over: bool = False


@dataclass(slots=True)
class Book:
    """What a session has spent, from its first message to its expiry."""

    own: Amounts = NOTHING
    asked: Amounts = NOTHING
    dearest: Amounts = NOTHING
    has_ledger: bool = False
    """Since a turn with a budget."""
    open: dict[str, tuple[str, Amounts]] = field(default_factory=dict)
    """The model calls without an outcome: their turn, and what was reserved."""
    asks: set[str] = field(default_factory=set)
    unheard: set[str] = field(default_factory=set)
    """The asks that were cancelled: their bill comes later."""
    turn: TurnBook | None = None
    messages: dict[str, MessageAccepted] = field(default_factory=dict)


def check_spending(topics: Topics, catalog: Catalog) -> None:
    """Costs are sums over the log, no call begins that a budget forbids, and a breach is told once, as it stands.

    A turn is overrun by no more than by what one call is dearer than what was reserved, and its asked agents than
    their shares.
    """
    sessions, steps = fold(topics, catalog)
    letters = (decode_dead_letter(record.value or b"") for record in topics[DEAD_LETTERS.name])
    bugs = {letter.id for letter in letters if letter.cause == Cause.CORE_ERROR}
    books: defaultdict[str, Book] = defaultdict(Book)
    for record, event in facts(topics):
        step = steps[place_of(record)]
        if step.session is None:
            books.pop(event.session_id, None)
            continue
        auditor = Auditor(catalog, books[event.session_id], event, step)
        if isinstance(event, MessageAccepted):
            auditor.book.messages.setdefault(event.message_id, event)
        auditor.count(is_bug=place_of(record) in bugs)
        auditor.follow()
    for name, book in books.items():
        session = sessions[name]
        ledger = session.head.ledger if session is not None else None
        if ledger is not None:
            asked = ledger.asked_micros, ledger.asked_tokens, ledger.asked_calls
            assert asked == book.asked, f"{name} has counted {asked} of those that it asked, and they took {book.asked}"
    _check_bills(topics)


def _check_bills(topics: Topics) -> None:
    """What the asker is told of the cost is what the asked turn says, with what that one has asked."""
    ends: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for event in distinct_events(topics).values():
        if isinstance(event, TurnCompleted | TurnFailed | TurnCancelled):
            ends[event.session_id, event.message_id].add(_cost(event))
    for _, fact in facts(topics):
        if isinstance(fact, ChildEnded):
            child = fact.child_session_id
            # In each life of the name one; those that reply to a broadcast have their own name for a message.
            costs = ends[child, fact.call_id] | ends[child, child]
            is_gathered = child.rpartition(":")[2] == GATHERER
            assert fact.cost_micros in costs or is_gathered, f"{fact} should tell one of {costs}"


def _cost(end: TurnEnd) -> int:
    return end.cost_micros + (0 if end.asked_cost_micros is UNSET else end.asked_cost_micros)


def _plus(one: Amounts, other: Amounts) -> Amounts:
    return _three(map(add, one, other))


def _three(amounts: Iterator[int]) -> Amounts:
    micros, tokens, calls = amounts
    return micros, tokens, calls


@dataclass(slots=True)
class Auditor:
    """One event of the log, and what it leads to, against the books of its session."""

    catalog: Catalog
    book: Book
    event: SessionEvent
    step: Step

    def count(self, *, is_bug: bool) -> None:
        """Enter what was spent, and whose bill comes later; of an event that is a bug, nothing is known."""
        event, book = self.event, self.book
        if is_bug:
            pass
        elif isinstance(event, ModelCompleted | ModelFailed) and event.call_id in book.open:
            turn_id, reserved = book.open.pop(event.call_id)
            self._count_call(turn_id, reserved, (event.cost_micros, event.usage.total_tokens, 1))
        elif isinstance(event, ChildEnded):
            if event.call_id in self.step.settled and event.call_id in book.asks:
                self._count_child(event)
            elif event.call_id in book.unheard:
                book.unheard.discard(event.call_id)
                self._count_child(event)
        cancelled = [call for call in self.step.settled if call in book.asks]
        if cancelled and self._counts():
            for call in cancelled:
                rest = {f"{call}/rest"}
                is_ended = isinstance(event, ChildEnded) and event.call_id == call
                book.unheard |= rest if is_ended else {call, *rest}

    def _counts(self) -> bool:
        """Whether the session has a budget to count for, now."""
        turn = self.book.turn
        if turn is not None and not self.book.has_ledger:
            self.book.has_ledger = bool(list(self._limits(turn)))
        return self.book.has_ledger

    def _count_call(self, turn_id: str, reserved: Amounts, took: Amounts) -> None:
        book, turn = self.book, self.book.turn
        counts = self._counts()
        book.own = _plus(book.own, (took[0], took[1], int(counts)))
        if counts:
            book.dearest = _three(map(max, book.dearest, took))
        if turn is not None and turn.turn_id == turn_id:
            turn.own = _plus(turn.own, (took[0], took[1], int(counts)))
            excess = _three(max(0, each - kept) for each, kept in zip(took, reserved, strict=True))
            turn.excess = _three(map(max, turn.excess, excess))

    def _count_child(self, event: ChildEnded) -> None:
        turn, took = self.book.turn, (event.cost_micros, event.tokens, event.calls)
        if turn is not None and event.call_id.startswith(f"{turn.turn_id}/"):
            turn.asked = _plus(turn.asked, took)
            share = turn.shares.get(event.call_id.removesuffix("/rest"), took)
            excess = _three(max(0, each - kept) for each, kept in zip(took, share, strict=True))
            turn.excess = _plus(turn.excess, excess)
        if self._counts():
            self.book.asked = _plus(self.book.asked, took)

    def follow(self) -> None:
        """Hold what was told and ordered against the books."""
        for event in self.step.events:
            self._told(event)
        turn = self.book.turn
        for order in self.step.effects:
            if isinstance(order, CallModel):
                assert turn is not None, f"{order} is of no turn that runs"
                assert order.turn_id == turn.turn_id, f"{order} is not of the turn that runs"
                self._check_free(turn, order.call_id)
                self.book.open[order.call_id] = turn.turn_id, self._reserved(turn)

    def _told(self, event: AgentEvent) -> None:
        turn = self.book.turn
        match event:
            case TurnStarted():
                said = self.book.messages[event.message_id]
                turn = TurnBook(event.turn_id, event.agent, said.specs_offset, said.asked_by, said.budget_micros)
                self.book.turn = turn
            case HandedOff() if turn is not None:
                turn.agent, turn.is_handed_over = event.to_agent, True
            case ToolCalled() if turn is not None:
                self._check_called(turn, event)
            case BudgetExceeded() if turn is not None and not event.budget:
                self._check_breach(turn, event)
            case ApprovalRequested() if turn is not None and event.tool == EXCEED_BUDGET:
                turn.waits[event.call_id] = str(event.input["budget"])
            case ApprovalAnswered() if turn is not None and event.call_id in turn.waits and not event.remaining:
                self._check_decision(turn, event)
            case TurnCompleted() | TurnFailed() | TurnCancelled():
                self._check_end(event)
            case _:
                pass

    def _check_breach(self, turn: TurnBook, event: BudgetExceeded) -> None:
        name = f"{event.scope}_{event.unit}"
        limit = next((one for one in self._limits(turn) if one.name == name), None)
        assert limit is not None, f"{event} is of no limit that holds"
        stands = (limit.allowed, limit.spent, limit.reserved)
        assert stands == (event.limit, event.spent, event.reserved), f"{event} is told, and it stands {limit}"
        assert event.spent >= event.limit or event.spent + event.reserved > event.limit, f"{event} is no breach"
        assert (name, event.action) not in turn.breaches, f"{turn.turn_id} is told of {name} again: {turn.breaches}"
        turn.breaches.append((name, event.action))
        ends = [each for each in self.step.events if each.turn_id == event.turn_id]
        match event.action:
            case "stop":
                failed = [each for each in ends if isinstance(each, TurnFailed) and each.seq > event.seq]
                codes = [each.error.code for each in failed]
                assert codes[:1] == [FailureCode.BUDGET_EXCEEDED], f"{event} did not stop the turn"
            case "ask":
                waits = [each for each in ends if isinstance(each, ApprovalRequested) and each.seq > event.seq]
                asked = [each.tool for each in waits]
                assert asked[:1] == [EXCEED_BUDGET], f"nobody was asked about {event}"
            case "cheaper":
                turn.raised.add(name)

    def _check_decision(self, turn: TurnBook, event: ApprovalAnswered) -> None:
        name = turn.waits.pop(event.call_id)
        if event.decision == "approve":
            assert name not in turn.raised, f"{turn.turn_id} has raised {name} twice"
            turn.raised.add(name)
            return
        failed = [each for each in self.step.events if isinstance(each, TurnFailed) and each.turn_id == turn.turn_id]
        assert failed, f"{turn.turn_id} goes on, though {name} was not raised"

    def _check_free(self, turn: TurnBook, call_id: str) -> None:
        for limit in self._limits(turn):
            is_free = limit.spent < limit.allowed and limit.spent + limit.reserved <= limit.allowed
            assert is_free, f"{call_id} begins, and {limit} forbids it"

    def _check_called(self, turn: TurnBook, event: ToolCalled) -> None:
        # What people have approved was looked at before, and so was what stands beside a hand-off.
        is_looked_at = isinstance(self.event, ApprovalDecided)
        if not is_looked_at and not any(isinstance(each, HandedOff) for each in self.step.events):
            self._check_free(turn, event.call_id)
        if event.child_session_id:
            self.book.asks.add(event.call_id)
            self._check_share(turn, event.call_id)

    def _check_share(self, turn: TurnBook, call_id: str) -> None:
        """All shares of an answer together are no more than is left."""
        asked = [
            fact.asked_by
            for fact in self.step.facts
            if isinstance(fact, MessageAccepted | BroadcastAccepted) and fact.asked_by is not None
        ]
        mine = next((each for each in asked if each.call_id == call_id), None)
        if mine is None:
            return
        given = _given(mine)
        turn.shares[call_id] = _three(1 << 60 if share is None else share for share in given)
        if isinstance(self.event, ApprovalDecided):
            return  # It was shared out when the model asked, maybe by another agent.
        limits = list(self._limits(turn))
        for index, share in enumerate(given):
            is_limited = any(limit.unit == index for limit in limits)
            assert is_limited == (share is not None), f"{call_id} has the share {share} of {limits}"
        for limit in limits:
            now = sum(turn.shares[each.call_id][limit.unit] for each in asked if each.call_id in turn.shares)
            left = max(0, limit.allowed - limit.spent - limit.reserved)
            assert now <= left, f"{call_id} and others may take {now} {UNITS[limit.unit]}, and {left} are left: {limit}"

    def _check_end(self, event: TurnEnd) -> None:
        turn = self.book.turn
        if turn is None or turn.turn_id != event.turn_id:
            return  # It never ran.
        self.book.turn = None
        asked = 0 if event.asked_cost_micros is UNSET else event.asked_cost_micros
        told = event.cost_micros, asked
        assert told == (turn.own[0], turn.asked[0]), f"{event} tells {told}, and took {turn.own} and {turn.asked}"
        stopped = isinstance(event, TurnFailed) and event.error.code == FailureCode.BUDGET_EXCEEDED
        assert not stopped or turn.breaches, f"{event} without a breach"
        if not turn.is_handed_over:
            for limit in self._limits(turn):
                most = limit.allowed + turn.excess[limit.unit]
                is_of_turn = not limit.name.startswith("session")
                assert not is_of_turn or limit.spent <= most, (
                    f"{turn.turn_id} is overrun by more than {turn.excess}: {limit}"
                )

    def _reserved(self, turn: TurnBook) -> Amounts:
        spec = self._spec(turn)
        if spec is None or spec.pattern is not None:
            return NOTHING
        return max(spec.budget.reserve_micros, self.book.dearest[0]), self.book.dearest[1], 1

    def _spec(self, turn: TurnBook) -> AgentSpec | None:
        return self.catalog.get(turn.agent, turn.specs_offset)

    def _limits(self, turn: TurnBook) -> Iterator[Limit]:
        spec, by = self._spec(turn), turn.asked_by
        budget = spec.budget if spec is not None else Budget()
        reserved = self._reserved(turn)
        of_turn, of_session = _plus(turn.own, turn.asked), _plus(self.book.own, self.book.asked)
        caps = (None, None, None) if by is None else _given(by)
        for index, unit in enumerate(UNITS):
            given = (
                ("turn", getattr(budget, f"turn_{unit}"), of_turn),
                ("session", getattr(budget, f"session_{unit}"), of_session),
                ("asked", caps[index], of_turn),
                ("message", turn.budget_micros if unit == "micros" else None, of_turn),
            )
            for scope, limit, spent in given:
                if limit is not None:
                    name = f"{scope}_{unit}"
                    allowed = limit * 2 if name in turn.raised else limit
                    yield Limit(name, index, allowed, spent[index], reserved[index])


def _given(asked_by: AskedBy) -> tuple[int | None, int | None, int | None]:
    """The share of an asked agent, in each unit."""
    micros, tokens, calls = asked_by.budget_micros, asked_by.budget_tokens, asked_by.budget_calls
    return (
        None if micros is UNSET else micros,
        None if tokens is UNSET else tokens,
        None if calls is UNSET else calls,
    )
