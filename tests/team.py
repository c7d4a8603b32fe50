"""Histories of several sessions that ask each other."""

from histories import Clock, History

from agents.catalog import Catalog
from agents.draft import Step
from schemas.content import ToolUseBlock
from schemas.log import MessageAccepted, SessionEvent

LEAD, HELPER = "lead", "helper"


def ask(id: str = "u1", message: object = "what is it?", agent: str = HELPER) -> ToolUseBlock:
    return ToolUseBlock(id=id, name=f"ask_{agent}", input={"message": message})


def asked(step: Step) -> list[MessageAccepted]:
    return [fact for fact in step.facts if isinstance(fact, MessageAccepted)]


class Team:
    """Sessions that speak to each other: what one says is the next fact of another's log, when `deliver` is called."""

    def __init__(self, agents: Catalog) -> None:
        self.agents = agents
        self.clock = Clock()
        self.sessions: dict[str, History] = {}
        self.said: list[SessionEvent] = []

    def session(self, name: str) -> History:
        history = self.sessions.setdefault(name, History(self.agents, name))
        history.clock = self.clock
        return history

    def hear(self, step: Step) -> Step:
        self.said += step.facts
        return step

    def deliver(self) -> None:
        while self.said:
            fact = self.said.pop(0)
            self.hear(self.session(fact.session_id).feed(fact))
