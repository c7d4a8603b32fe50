"""A recording with the outcomes of this core, and with no more agents than it takes."""

from headrace.replay.begin import Beginning
from headrace.replay.fold import fold
from headrace.replay.recording import Outcome, Recording, with_outcomes


def recorded(recording: Recording, beginning: Beginning) -> Recording:
    """What `--export` writes."""
    outcomes: list[Outcome] = []
    agents: set[str] = set()
    for moment in fold(recording, seed=beginning.seed, begin=beginning.offset):
        if moment.is_folded:
            outcomes.append(moment.outcome())
        agents |= {order.agent for order in moment.step.effects} | {event.agent for event in moment.step.events}
    return with_outcomes(recording, outcomes, agents)
