"""Dead letters as an operator sees them: listed, shown with what led to them and what became of them, sent again."""

from headrace.dead_letters.errors import (
    NoSuchDeadLetterError,
    NotEditedError,
    NothingToReplayError,
    RefusedAgainError,
)
from headrace.dead_letters.letters import Selection, find_dead_letter, list_dead_letters
from headrace.dead_letters.send import replay

__all__ = [
    "NoSuchDeadLetterError",
    "NotEditedError",
    "NothingToReplayError",
    "RefusedAgainError",
    "Selection",
    "find_dead_letter",
    "list_dead_letters",
    "replay",
]
