"""What a user message, a control rule or the record of calls makes of a call of the simulated model."""

from typing import Any

import orjson
import pytest

from headrace.simulated_model.directives import parse_directives
from headrace.simulated_model.faults import Fault, FaultRules
from headrace.simulated_model.ledger import CallLedger, Tally
from headrace.simulated_model.options import ModelOptions
from headrace.simulated_model.requests import RequestRefusedError, decode_request
from headrace.simulated_model.usage import InputUsage, PromptCache, count_tokens


def test_all_directives_are_read_and_taken_out_of_the_text() -> None:
    """A message can hold any number of orders; what remains is what the user said."""
    orders = parse_directives(
        'Please [[fault:429 times=2 retry-after=1]] [[fault:drop step=2]] add [[tool:calc {"m": [[1, 2], [3]]}]]'
        " it [[tools:a, b]][[tool-loop:c]][[say:Done: 1]] [[latency:0.5]] [[stop:refusal]] now"
    )
    assert orders.text == "Please add it now"
    assert [(order.fault, order.times, order.step) for order in orders.faults] == [
        (Fault("429", "1"), 2, None),
        (Fault("drop"), None, 2),
    ]
    assert [(order.name, order.input) for order in orders.tools] == [
        ("calc", {"m": [[1, 2], [3]]}),
        ("a", None),
        ("b", None),
    ]
    assert (orders.tool_loop, orders.say, orders.latency_s, orders.stop) == ("c", "Done: 1", 0.5, "refusal")


def test_a_tool_directive_needs_no_input() -> None:
    """Without an input, the name alone is the order."""
    assert [(order.name, order.input) for order in parse_directives("[[tool:calc]]").tools] == [("calc", None)]


def test_other_double_brackets_are_text() -> None:
    """A wiki link or a matrix is not an order."""
    words = "see [[Some Page]] and [[1,2],[3,4]]"
    assert parse_directives(words).text == words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("[[fault:418]]", "unknown fault '418'"),
        ("[[fault:429 often=1]]", "expected times=N"),
        ("[[fault:429 times=x]]", "expected a number"),
        ("[[stop:tool_use]]", "expected one of end_turn"),
        ("[[tool:calc {]]", "not JSON"),
        ("[[tool:calc {}", "no end"),
        ("[[say:hi", "no end"),
        ("[[latency:-1]]", "from 0 to 3600"),
    ],
)
def test_a_wrong_directive_is_refused(words: str, said: str) -> None:
    """A test with a typo fails at once instead of testing nothing."""
    with pytest.raises(RequestRefusedError, match=said):
        parse_directives(words)


def test_a_fault_strikes_its_first_attempts_in_its_step() -> None:
    """`times` counts attempts, `step` picks one model call of the turn."""
    timed, stepped = parse_directives("[[fault:500 times=2]][[fault:500 step=2]]").faults
    assert [timed.strikes(1, attempt) for attempt in (1, 2, 3)] == [True, True, False]
    assert [stepped.strikes(step, 9) for step in (1, 2, 3)] == [False, True, False]


def test_fault_rules_are_used_up_in_their_order() -> None:
    """Two overloads, then drops until a moment, then calm."""
    rules = FaultRules()
    rules.replace(b'[{"kind": "529", "times": 2, "retry_after": 3}, {"kind": "drop", "until": 100.0}]')
    struck = [rules.strike(now) for now in (1.0, 2.0, 3.0, 99.0, 100.0, 101.0)]
    assert struck == [Fault("529", "3")] * 2 + [Fault("drop")] * 2 + [None] * 2


@pytest.mark.parametrize("wrong", [b"{}", b'[{"kind": "nope"}]', b'[{"kind": "529", "often": 1}]', b'[{"times": 1}]'])
def test_wrong_fault_rules_are_refused_and_the_old_ones_stay(wrong: bytes) -> None:
    """A typo in a rule does not switch the faults off."""
    rules = FaultRules()
    rules.replace(b'[{"kind": "500"}]')
    with pytest.raises(RequestRefusedError):
        rules.replace(wrong)
    assert rules.strike(0.0) == Fault("500")


def test_the_record_of_calls_counts_starts_and_ends() -> None:
    """One call tried twice, one still running: the counts per id and per body say so."""
    ledger = CallLedger(1_000)
    assert [ledger.start("body", "s/1/1"), ledger.start("body", "s/1/1"), ledger.start("other", None)] == [1, 2, 1]
    ledger.end("body", "s/1/1", "failed")
    ledger.end("body", "s/1/1", "completed")
    record = ledger.snapshot()
    assert record["calls"] == {"s/1/1": {"started": 2, "completed": 1}}
    assert record["fingerprints"] == {
        "body": {"started": 2, "completed": 1},
        "other": {"started": 1, "completed": 0},
    }
    totals = {"started": 3, "completed": 1, "failed": 1, "abandoned": 0, "in_flight": 1, "in_flight_peak": 3}
    assert record["totals"] == totals
    ledger.reset()
    totals = {"started": 0, "completed": 0, "failed": 0, "abandoned": 0, "in_flight": 1, "in_flight_peak": 1}
    assert ledger.snapshot() == {"totals": totals, "forgotten": 0, "calls": {}, "fingerprints": {}}


def test_a_tally_forgets_the_oldest_keys_and_says_how_many() -> None:
    """Memory stays bounded, recent keys keep their counts, and a reader can tell that some are gone."""
    tally = Tally(100)
    for number in range(1_000):
        tally.add(str(number))
        assert len(tally.counts()) <= 100
    assert tally.add("999") == 2
    assert tally.forgotten + len(tally.counts()) == 1_000


def cached_request(*texts: str, mark: int) -> Any:
    content = [{"type": "text", "text": words} for words in texts]
    content[mark]["cache_control"] = {"type": "ephemeral"}  # type: ignore[assignment] # The literal has only strings.
    system = [{"type": "text", "text": "s" * 400}]
    messages = [{"role": "user", "content": content}]
    body = {"model": "m", "max_tokens": 9, "system": system, "messages": messages}
    return decode_request(orjson.dumps(body))


def test_a_marked_prefix_is_written_once_and_read_afterwards() -> None:
    """The mark moves on with the conversation, and what was marked before is found again without its mark."""
    cache = PromptCache()
    first = cached_request("a" * 40, mark=0)
    longer = cached_request("a" * 40, "b" * 80, mark=1)
    assert cache.use(first, 0.0) == InputUsage(uncached=0, written=110, read=0)
    assert cache.use(first, 1.0) == InputUsage(uncached=0, written=0, read=110)
    assert cache.use(longer, 2.0) == InputUsage(uncached=0, written=20, read=110)
    assert cache.use(longer, 2.0).total == count_tokens(longer)


def test_what_follows_the_last_mark_is_not_cached() -> None:
    """Only the prefix up to the mark can be read; the rest costs the full price each time."""
    cache = PromptCache()
    request = cached_request("a" * 40, "b" * 80, mark=0)
    assert cache.use(request, 0.0) == InputUsage(uncached=20, written=110, read=0)
    assert cache.use(request, 1.0) == InputUsage(uncached=20, written=0, read=110)


def test_a_cached_prefix_expires_five_minutes_after_its_last_use() -> None:
    """Use keeps a prefix alive; silence does not. Another model or another beginning shares nothing."""
    cache = PromptCache()
    request = cached_request("a" * 40, mark=0)
    cache.use(request, 0.0)
    assert cache.use(request, 299.0).read == 110
    assert cache.use(request, 598.0).read == 110
    assert cache.use(request, 898.0).read == 0
    assert cache.use(cached_request("c" * 40, mark=0), 898.0).read == 0


@pytest.mark.parametrize("wrong", [{"latency_s": -1.0}, {"first_token_share": 2.0}, {"paced_writes_max": 0}])
def test_wrong_options_are_refused_by_name(wrong: dict[str, Any]) -> None:
    """An option out of range is named in the error."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ModelOptions(**wrong)
