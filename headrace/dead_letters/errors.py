"""What can go wrong with dead letters, named by what the caller must do."""

from headrace.errors import HeadraceError


class NoSuchDeadLetterError(HeadraceError):
    """There is no dead letter of this id: `headrace dlq list` shows those there are."""


class NothingToReplayError(HeadraceError):
    """The record cannot be sent again: there was none, it was too large to be kept twice, or it is a fact already."""


class RefusedAgainError(HeadraceError):
    """The record would be refused: correct it, or what it needs. Nothing was sent."""


class NotEditedError(HeadraceError):
    """The editor did not change the value, or failed. Nothing was sent."""
