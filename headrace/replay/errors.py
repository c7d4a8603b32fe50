"""Why a session cannot be replayed. Each message says what to do."""

from headrace.errors import HeadraceError


class NoSuchSessionError(HeadraceError):
    """The log has no fact of the session: correct the id, or the brokers and the prefix."""


class RecordingError(HeadraceError):
    """The file is no recording, or one of a format that this version does not read."""


class NotReachedError(HeadraceError):
    """The log does not get to the place where the replay was to stop."""


class ReplayAgentsError(HeadraceError):
    """The agents or tools of the settings cannot be read: correct them, or use a recording, which has its own."""
