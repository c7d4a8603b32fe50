"""Agents with a pattern: each asks others, round by round, and no model is called for it."""

from collections.abc import Mapping, Sequence

import msgspec
import pytest
from histories import History, agent, catalog
from msgspec.structs import replace
from team import Team

from agents.applied import spec_fields, spec_version
from agents.asks import definitions
from agents.catalog import Catalog, parse_agents
from agents.session import CallKind
from agents.spec import AgentSpec
from schemas.content import ToolUseBlock
from schemas.events import ToolCalled, TurnCompleted, TurnFailed
from schemas.failure import FailureCode
from schemas.ids import call_id
from schemas.log import TimerFired

Answers = Mapping[str, Sequence[str | None]]
"""What each agent answers, one after the other; None: its turn fails. The last one is said again and again."""

NAMES = ("a", "b", "c", "judge")
OTHERS = "".join(f'[{name}]\ninstructions = "Help."\n' for name in NAMES)


def team_of(pattern: str, more: str = "") -> Catalog:
    """The agent `p` with this pattern, and the agents that it may ask."""
    agents = parse_agents(f"[p]\n{more}\n[p.pattern]\n{pattern}\n{OTHERS}", "test")
    return Catalog(agents, "p")


class Run:
    """A turn of `p`, played to its end; `asked` is whom it asked for what, in order."""

    def __init__(self, agents: Catalog, answers: Answers, text: str = "Do it.") -> None:
        self.world = Team(agents)
        self.parent = self.world.session("s1")
        self.asked: list[tuple[str, str]] = []
        self._left = {name: list(said) for name, said in answers.items()}
        self.world.hear(self.parent.say("m1", text))
        self.go_on()

    def go_on(self) -> None:
        """Let the sessions answer each other until nobody has a call that waits for its model."""
        self.world.deliver()
        while waiting := [one for one in self.world.sessions.values() if one.pending(CallKind.MODEL)]:
            for child in waiting:
                self._answer(child)
            self.world.deliver()

    def _answer(self, child: History) -> None:
        assert child.session is not None
        assert child.session.head.turn is not None
        name = child.session.head.turn.agent
        self.asked.append((name, child.prompt_of(name).messages[-1]["content"][-1]["text"]))
        left = self._left[name]
        said = left.pop(0) if len(left) > 1 else left[0]
        if said is None:
            self.world.hear(child.model_fails(FailureCode.OVERLOADED))
        else:
            self.world.hear(child.model_says(*([said] if said else [])))

    @property
    def agents(self) -> str:
        return "".join(name[0] for name, _ in self.asked)

    @property
    def text(self) -> str:
        (end,) = self.parent.ends()
        assert isinstance(end, TurnCompleted), end
        return end.text

    @property
    def error(self) -> str:
        (end,) = self.parent.ends()
        assert isinstance(end, TurnFailed), end
        assert end.error.code == FailureCode.PATTERN_STOPPED
        return end.error.message


CHAIN = 'type = "chain"\nsteps = ["a", {agent = "b", gate = {contains = "END", message = "no end"}}, "c"]'


def test_a_chain_hands_each_answer_to_the_next() -> None:
    """No model is called for the chain itself: it costs what its agents cost."""
    run = Run(team_of(CHAIN), {"a": ["one"], "b": ["two END"], "c": ["three"]})
    assert run.asked == [("a", "Do it."), ("b", "one"), ("c", "two END")]
    assert run.text == "three"
    (end,) = run.parent.ends()
    assert isinstance(end, TurnCompleted)
    assert (end.usage.total_tokens, end.cost_micros, end.asked_cost_micros) == (0, 0, 6)
    called = [event.child_session_id for event in run.parent.seen if isinstance(event, ToolCalled)]
    assert called == ["s1~1.2", "s1~1.4", "s1~1.6"]
    assert all(step.effects == () for step in run.parent.steps)


def test_a_gate_stops_a_chain() -> None:
    """Its message is the failure, which names the step; the next step is not asked."""
    run = Run(team_of(CHAIN), {"a": ["one"], "b": ["two"], "c": ["three"]})
    assert run.error == "step 2 of 3 (`b`) was stopped by its gate: no end"
    assert run.agents == "ab"


@pytest.mark.parametrize(("said", "passes"), [("It is Fine", True), ("It is not", False)])
def test_a_gate_may_be_an_expression(said: str, *, passes: bool) -> None:
    """It is found anywhere in the answer."""
    run = Run(team_of('type = "chain"\nsteps = [{agent = "a", gate = {matches = "(?i)\\\\bfine$"}}]'), {"a": [said]})
    if passes:
        assert run.text == said
    else:
        assert "expected an answer that matches" in run.error


def test_a_chain_ends_where_a_step_fails() -> None:
    """The failure names the step, and says why."""
    run = Run(team_of(CHAIN), {"a": ["one"], "b": [None], "c": ["three"]})
    assert run.error.startswith("step 2 of 3 (`b`) failed: the agent `b` failed: why")


def test_an_answer_that_says_nothing_is_no_message_for_the_next() -> None:
    """And of the last step it is the answer."""
    assert "step 2 of 3 (`b`) failed: expected `message`" in Run(team_of(CHAIN), {"a": [" "]}).error
    assert Run(team_of('type = "chain"\nsteps = ["a"]'), {"a": [""]}).text == ""


ROUTE = 'type = "route"\nclassifier = "a"\nroutes = {billing = "b", "Tech Support" = "c"}'


@pytest.mark.parametrize(
    ("said", "agents", "text"),
    [
        ("billing", "ab", "from b"),
        (" **Billing**.", "ab", "from b"),
        ("This is for tech support, I think.", "ac", "from c"),
    ],
)
def test_a_route_is_the_one_that_the_classifier_names(said: str, agents: str, text: str) -> None:
    """The agent of the route gets the message itself."""
    run = Run(team_of(ROUTE), {"a": [said], "b": ["from b"], "c": ["from c"]})
    assert (run.agents, run.text) == (agents, text)
    assert run.asked[1][1] == "Do it."


@pytest.mark.parametrize("said", ["sales", "billing or tech support", "billings"])
def test_a_message_that_fits_no_route_goes_to_the_default(said: str) -> None:
    """Without one the turn fails, and says what was named."""
    answers = {"a": [said], "judge": ["the default"]}
    assert Run(team_of(ROUTE + '\ndefault = "judge"'), answers).text == "the default"
    assert f"to name one of billing, Tech Support, got `{said}`" in Run(team_of(ROUTE), answers).error


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({"a": [None]}, "the classifier `a` failed"),
        ({"a": ["billing"], "b": [None]}, "the route to `b` failed"),
    ],
)
def test_a_route_ends_where_one_of_its_agents_fails(answers: Answers, error: str) -> None:
    """The default is for messages that fit nowhere, not for failures."""
    assert Run(team_of(ROUTE + '\ndefault = "judge"'), answers).error.startswith(error)


PARALLEL = 'type = "parallel"\nsections = ["a", "b", "c"]'


def test_sections_are_asked_at_once_and_joined() -> None:
    """All get the message; the join gets the message and all answers, in the order of the sections."""
    agents = team_of(PARALLEL + '\njoin = "judge"')
    run = Run(agents, {"a": ["A"], "b": ["B"], "c": ["C"], "judge": ["joined"]})
    assert run.asked[:3] == [("a", "Do it."), ("b", "Do it."), ("c", "Do it.")]
    assert run.asked[3][1] == "# Task\n\nDo it.\n\n# Answers\n\n## a\n\nA\n\n## b\n\nB\n\n## c\n\nC"
    assert run.text == "joined"
    assert Run(team_of(PARALLEL), {"a": ["A"], "b": ["B"], "c": ["C"]}).text == "## a\n\nA\n\n## b\n\nB\n\n## c\n\nC"


def test_a_section_that_fails_stops_all_or_is_left_out() -> None:
    """As the pattern says; where all fail there is nothing to say."""
    answers: Answers = {"a": ["A"], "b": [None], "c": ["C"], "judge": [None]}
    assert Run(team_of(PARALLEL), answers).error.startswith("the section `b` failed: the agent `b` failed: why")
    leave_out = PARALLEL + '\nfailed_sections = "leave_out"'
    assert Run(team_of(leave_out), answers).text == "## a\n\nA\n\n## c\n\nC"
    assert "the section `c` failed" in Run(team_of(leave_out), {name: [None] for name in "abc"}).error
    assert Run(team_of(leave_out + '\njoin = "judge"'), answers).error.startswith("the join (`judge`) failed")


VOTE = 'type = "vote"\nagent = "a"\nvotes = 4'


@pytest.mark.parametrize(
    ("votes", "winner"),
    [
        (["yes", "No.", "no", "maybe"], "No."),
        (["no", "yes", "yes", "no"], "no"),
        (["no", None, "YES!", "yes"], "YES!"),
    ],
)
def test_most_votes_win(votes: Sequence[str | None], winner: str) -> None:
    """In the words of the first who voted so; of several with equally many votes, the one that came first."""
    run = Run(team_of(VOTE), {"a": votes})
    assert (run.agents, run.text) == ("aaaa", winner)


def test_a_judge_decides_between_equal_votes_only() -> None:
    """It is told the message and the answers that stand."""
    agents = team_of(VOTE + '\njudge = "judge"')
    run = Run(agents, {"a": ["no", "yes", "yes", "no"], "judge": ["it is yes"]})
    assert run.text == "it is yes"
    assert run.asked[-1][1].endswith("## Answer 1\n\nno\n\n## Answer 2\n\nyes")
    assert Run(agents, {"a": ["no", "yes", "yes", "yes"], "judge": [None]}).text == "yes"
    assert Run(agents, {"a": ["no", "yes"], "judge": [None]}).text == "yes"
    assert "the judge `judge` failed" in Run(agents, {"a": ["no", "no", "yes", "yes"], "judge": [None]}).error


def test_a_vote_in_which_half_fail_is_none() -> None:
    """Two of four are no majority of those who were asked."""
    assert Run(team_of(VOTE), {"a": ["yes", None, None, "yes"]}).error.startswith("2 of 4 votes of `a` failed: ")


EVALUATE = 'type = "evaluate"\ngenerator = "a"\nevaluator = "b"\naccept = "^ACCEPT"\nmax_rounds = 2'


def test_an_answer_is_improved_until_it_is_accepted() -> None:
    """What the evaluator says goes back with the answer; the answer of the turn is the generator's."""
    run = Run(team_of(EVALUATE), {"a": ["first", "second"], "b": ["Too short. Do not ACCEPT.", "ACCEPT"]})
    assert (run.agents, run.text) == ("abab", "second")
    assert run.asked[1][1] == "# Task\n\nDo it.\n\n# Answer\n\nfirst"
    improve = "# What to improve\n\nToo short. Do not ACCEPT."
    assert run.asked[2][1] == f"# Task\n\nDo it.\n\n# Your answer\n\nfirst\n\n{improve}"


def test_an_answer_that_is_never_accepted_ends_as_the_pattern_says() -> None:
    """It fails with the last judgement, or is the answer all the same."""
    answers = {"a": ["first", "second"], "b": ["no"]}
    assert Run(team_of(EVALUATE), answers).error == "`b` accepted none of 2 answers; the last time it said: no"
    assert Run(team_of(EVALUATE + '\nafter_max_rounds = "answer"'), answers).text == "second"
    assert Run(team_of(EVALUATE), {"a": ["x"], "b": [None]}).error.startswith("round 1 of at most 2 (`b`) failed")
    assert Run(team_of(EVALUATE), {"a": ["x", None], "b": ["no"]}).error.startswith("round 2 of at most 2 (`a`)")


LOOP = 'type = "loop"\nagent = "a"\nstop = "DONE"\nmax_rounds = 3'


def test_an_autonomous_agent_goes_on_until_it_says_that_it_is_done() -> None:
    """Each time it is told what it has so far."""
    run = Run(team_of(LOOP), {"a": ["one", "two", "three DONE"]})
    assert (run.agents, run.text) == ("aaa", "three DONE")
    assert run.asked[2][1] == "# Task\n\nDo it.\n\n# What you have so far\n\n## Round 1\n\none\n\n## Round 2\n\ntwo"


def test_an_autonomous_agent_comes_to_an_end() -> None:
    """After so many rounds, with a failure or with what it said last."""
    assert "`a` said nothing that matches `DONE` in 3 rounds" in Run(team_of(LOOP), {"a": ["one"]}).error
    assert Run(team_of(LOOP + '\nafter_max_rounds = "answer"'), {"a": ["1", "2", "3"]}).text == "3"
    assert Run(team_of(LOOP), {"a": ["one", None]}).error.startswith("round 2 of at most 3 (`a`) failed")


def test_a_pattern_may_be_asked_by_a_pattern_and_by_a_model() -> None:
    """It is an agent like any other, so the depth is limited as for any other."""
    inner = AgentSpec(name="p2", pattern=parse_agents("[x.pattern]\n" + CHAIN, "test")["x"].pattern)
    outer = parse_agents('[p.pattern]\ntype = "chain"\nsteps = ["p2", "a"]', "test")["p"]
    agents = catalog(outer, inner, *(agent(name) for name in NAMES))
    run = Run(agents, {"a": ["one", "last"], "b": ["two END"], "c": ["three"]})
    assert run.asked[-1] == ("a", "three")
    assert run.text == "last"
    assert {"s1", "s1~1.2", "s1~1.2~1.2"} <= run.world.sessions.keys()


def test_a_later_turn_of_another_agent_reads_what_the_pattern_asked() -> None:
    """Ids of what patterns ask differ within a session, so that the transcript is one that a model takes."""
    run = Run(team_of(CHAIN), {"a": ["one"], "b": ["two END"], "c": ["three"]})
    run.world.hear(run.parent.say("m2", "And again."))
    run.go_on()
    run.world.hear(run.parent.say("m3", "And you?", agent="a"))
    blocks = [block for message in run.parent.prompt_of("a").messages for block in message["content"]]
    ids = [block["id"] for block in blocks if block["type"] == "tool_use"]
    assert ids == ["p1_2", "p1_4", "p1_6", "p2_2", "p2_4", "p2_6"]


def test_a_conversation_may_be_handed_to_a_pattern() -> None:
    """What the model asked before is none of its rounds."""
    lead = replace(agent("lead"), agents=("a",), handoffs=("p",), tools=(), approval=())
    world = Team(catalog(lead, *team_of(CHAIN).agents.values()))
    parent = world.session("s1")
    parent.say("m1", "Do it.")
    ask = ToolUseBlock(id="t1", name="ask_a", input={"message": "first"})
    give = ToolUseBlock(id="t2", name="hand_off_to_p", input={"message": "yours"})
    world.hear(parent.model_says(ask, give))
    world.deliver()
    world.hear(world.session("s1~1.2").model_says("asked before"))
    world.deliver()
    for said in ("one", "two END", "three"):
        (child,) = [one for one in world.sessions.values() if one.pending(CallKind.MODEL)]
        world.hear(child.model_says(said))
        world.deliver()
    (end,) = parent.ends()
    assert isinstance(end, TurnCompleted)
    assert (end.agent, end.text) == ("p", "three")


def test_cancelling_and_waiting_too_long_are_as_with_every_agent() -> None:
    """The children are cancelled; a vote that did not come in time is one that failed."""
    world = Team(team_of(VOTE, "limits = {ask_seconds = 60}"))
    parent = world.session("s1")
    world.hear(parent.say("m1", "Do it."))
    world.deliver()
    for step in (3, 4, 5):
        world.hear(world.session(f"s1~1.{step}").model_says("yes"))
    world.deliver()
    world.clock.forward(61)
    assert parent.session is not None
    (waiting,) = parent.session.head.turn.pending if parent.session.head.turn else ()
    assert waiting.expires_at is not None
    due = waiting.expires_at
    fired = TimerFired(session_id="s1", call_id=call_id("s1/1", 2), due=due, at=world.clock.at)
    world.hear(parent.feed(fired))
    world.deliver()
    assert isinstance(parent.ends()[0], TurnCompleted)
    assert world.session("s1~1.2").ends()[0].at == world.clock.at
    world.hear(parent.say("m2", "Do it."))
    world.deliver()
    world.hear(parent.cancel())
    world.deliver()
    assert len(parent.ends()) == 2
    assert not [one for one in world.sessions.values() if one.pending()]


def test_a_vote_that_needs_approval_waits_for_people() -> None:
    """The asks of a pattern are calls like those of a model."""
    agents = team_of('type = "chain"\nsteps = ["a"]', 'approval = ["ask_a"]')
    run = Run(agents, {"a": ["one"]})
    (waiting,) = run.parent.pending(CallKind.APPROVAL)
    run.world.hear(run.parent.decide(waiting, "deny"))
    assert run.error.startswith("step 1 of 1 (`a`) failed: ")


def test_an_agent_that_was_removed_is_a_step_that_fails() -> None:
    """It says so at once: nobody waits for it."""
    agents = team_of('type = "chain"\nsteps = ["a", "b"]').agents
    run = Run(Catalog({name: spec for name, spec in agents.items() if name != "b"}, "p"), {"a": ["one"]})
    assert run.error.startswith("step 2 of 2 (`b`) failed: the agent `b` does not exist any more")


def test_what_is_asked_at_once_fits_in_a_record() -> None:
    """The same long message to many is too much."""
    wide = 'type = "vote"\nagent = "a"\nvotes = 20'
    assert "expected at most 1048576 bytes to ask `a` at once" in Run(team_of(wide), {}, "x" * 100_000).error
    assert "expected a message with a text" in Run(team_of(wide), {}, " ").error


def test_the_pattern_stops_where_the_limits_of_its_turn_are() -> None:
    """As every turn does, though no model is called."""
    run = Run(team_of(LOOP, "limits = {transcript_bytes = 500}"), {"a": ["x" * 600, "DONE"]})
    assert run.parent.failure().code == FailureCode.LIMIT_TRANSCRIPT


def test_a_pattern_is_applied_as_it_was_declared() -> None:
    """Its record gives back the same agent; another pattern is another version, and agents without one keep theirs."""
    for text in (CHAIN, ROUTE, PARALLEL, VOTE, EVALUATE, LOOP):
        spec = team_of(text).agents["p"]
        fields = msgspec.json.decode(msgspec.json.encode(spec_fields(spec)))
        assert msgspec.convert({**fields, "name": "p"}, AgentSpec) == spec
    versions = {spec_version(team_of(text).agents["p"]) for text in (CHAIN, ROUTE, PARALLEL, VOTE, EVALUATE, LOOP)}
    assert len(versions) == 6
    assert spec_version(AgentSpec(name="x", instructions="Help.")) == KNOWN_VERSION


KNOWN_VERSION = "bbaca89342fb"


def test_the_tools_of_a_pattern_are_those_that_ask_its_agents() -> None:
    """Each once, however often it is asked."""
    agents = team_of('type = "chain"\nsteps = ["a", "b", "a"]')
    assert agents.agents["p"].offered == ("ask_a", "ask_b")
    assert [tool["name"] for tool in definitions(agents.agents["p"], agents.get)] == ["ask_a", "ask_b"]
