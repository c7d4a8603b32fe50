"""Sessions whose agents were applied meanwhile are folded with those of then."""

from histories import History, agent, catalog, use
from recording_fixture import difference, recording_of

from headrace.replay.begin import Beginning
from headrace.replay.compare import Comparison
from headrace.replay.export import recorded
from headrace.replay.recording import lines, parse_recording


def test_a_recording_has_the_agents_that_were_applied() -> None:
    """Each turn is folded with those of its offset; of an agent that the session never had, no version is handed on."""
    history = History(catalog(agent()))
    history.say("m1")
    history.catalog.apply(2, "assistant", agent(tool_calls_per_turn=2))
    history.catalog.apply(4, "secret", agent("secret"))
    history.model_says("answer")
    history.say("m2", specs_offset=4)
    history.model_says(use("add", "t1"))
    history.tool_returns(history.pending()[0])
    history.model_says("done")
    history.say("m3", agent="nobody", specs_offset=4)
    kept = recorded(recording_of(history), Beginning())
    assert [(one.agent, one.spec == agent("secret")) for one in kept.about.applied] == [
        ("assistant", False),
        ("secret", False),
    ]
    assert kept.about.applied[0].spec == agent(tool_calls_per_turn=2)
    again = parse_recording(list(lines(kept)), "file")
    assert again == kept
    assert difference(again) == Comparison(same=7)
    assert "assistant, secret, got `nobody`" in history.failure().message
