"""What a computation says to the model where it cannot be done."""


class RefusedError(ValueError):
    """The message says what was expected, what came, and what to do."""
