"""How agents with a pattern are declared, and what is refused."""

import pytest

from agents.catalog import AgentsFileError, check_asked, parse_agents


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[p.pattern]\ntype = "chain"\nsteps = []', "length >= 1"),
        ('[p.pattern]\ntype = "circle"', "Invalid value 'circle'"),
        ('[p.pattern]\ntype = "chain"\nstep = ["a"]', "unknown field `step`"),
        ("[p]\n", "expected `instructions` of at least one character, or a `pattern`"),
        ('[p]\ninstructions = "x"\n[p.pattern]\ntype = "chain"\nsteps = ["a"]', "expected none of ['instructions']"),
        ('[p]\nmodel = "x"\n[p.pattern]\ntype = "chain"\nsteps = ["a"]', "expected none of ['model']"),
        ('[p]\nagents = ["a"]\n[p.pattern]\ntype = "chain"\nsteps = ["a"]', "expected none of ['agents']"),
        (
            '[p]\nbudget = {turn_micros = 9, reserve_micros = 1}\n[p.pattern]\ntype = "vote"\nagent = "a"',
            "expected none of ['budget.reserve_micros']",
        ),
        (
            '[p]\nbudget = {on_breach = "cheaper", cheaper_model = "x"}\n[p.pattern]\ntype = "vote"\nagent = "a"',
            "expected none of ['budget.cheaper_model']",
        ),
        ('[p.pattern]\ntype = "chain"\nsteps = ["p"]', "got `p` itself, which would never end"),
        ('[p.pattern]\ntype = "chain"\nsteps = [{agent = "a", gate = {}}]', "either `contains` or `matches`"),
        ('[p.pattern]\ntype = "loop"\nagent = "a"\nstop = "(a"', "expected `stop` to be an expression of RE2"),
        ('[p.pattern]\ntype = "loop"\nagent = "a"\nstop = "a(?=b)"', "no lookaround"),
        ('[p.pattern]\ntype = "loop"\nagent = "a"\nstop = "x"\nmax_rounds = 21', "asks_per_turn` of at least 21"),
        (
            '[p]\nlimits = {model_calls_per_turn = 10}\n[p.pattern]\ntype = "loop"\nagent = "a"\nstop = "x"',
            "model_calls_per_turn` of at least 11",
        ),
        ('[p.pattern]\ntype = "parallel"\nsections = ["a", "a"]', "each agent once in `sections`"),
        ('[p.pattern]\ntype = "route"\nclassifier = "a"\nroutes = {x = "b", "X." = "c"}', "differ by more than case"),
    ],
)
def test_a_pattern_that_cannot_be_is_refused_with_what_to_do(text: str, problem: str) -> None:
    """When the file is read, not when the turn runs."""
    with pytest.raises(AgentsFileError) as refused:
        parse_agents(text, "agents.toml")
    assert problem in str(refused.value)


def test_a_pattern_asks_agents_that_exist() -> None:
    """A model that may ask one that does not goes on without it, so such an agent is left alone."""
    agents = parse_agents('[m]\ninstructions = "x"\nagents = ["gone"]\n[p.pattern]\ntype = "vote"\nagent = "m"', "test")
    check_asked(agents, agents)
    with pytest.raises(AgentsFileError, match=r"agent \[p\]: expected agents that exist in its `pattern`, got m"):
        check_asked(agents, {"p"})
