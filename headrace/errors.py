"""What can go wrong between a client and Headrace, named by what the caller must do. Each message says how."""


class HeadraceError(Exception):
    """The base of all errors of the client and the command."""


class StartBrokersError(HeadraceError):
    """No broker answers: start one, or correct the address or the security settings."""


class ApplyTopicsError(HeadraceError):
    """A topic is missing: create the topics with `headrace topics apply`."""


class CorrectMessageError(HeadraceError, ValueError):
    """The message would be refused: it is not valid or too large. Nothing was sent; correct it."""


class RetryWithSameIdError(HeadraceError):
    """The broker did not confirm in time: send again with the same `message_id`, and it is answered once."""

    def __init__(self, message: str, message_id: str) -> None:
        super().__init__(message)
        self.message_id = message_id


class KeepWaitingError(HeadraceError):
    """The message was accepted and is not answered yet: its answer will come on `agent-events`."""

    def __init__(self, message: str, message_id: str) -> None:
        super().__init__(message)
        self.message_id = message_id


class ReadAgainError(HeadraceError):
    """Reading from the brokers failed for good: begin again with what was read last."""


class TryAgainError(HeadraceError):
    """The brokers failed in the middle of the work: do it again when they answer."""


class UsageError(HeadraceError):
    """A command was not called as its help says."""
