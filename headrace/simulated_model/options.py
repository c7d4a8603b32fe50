"""What can be set about the simulated model."""

import msgspec


class ModelOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of one simulated model; the defaults answer at once."""

    latency_s: float = 0.0
    """How long a call takes, from the request to the end of its answer."""

    first_token_share: float = 0.3
    """The part of the latency that passes before the first token of a stream."""

    paced_writes_max: int = 20
    """A paced stream leaves in at most this many writes; more would cost CPU and look the same to a person."""

    paced_writes_per_s: int = 4_000
    """Above this rate over all calls in flight, each stream leaves in fewer writes."""

    recorded_calls_max: int = 1_000_000
    """Entries kept for `GET /control/calls`, up to four for each call: about 80 bytes each."""

    def __post_init__(self) -> None:
        if self.latency_s < 0:
            raise ValueError(f"latency_s must be 0 or more seconds, not {self.latency_s}")
        if not 0 <= self.first_token_share <= 1:
            raise ValueError(f"first_token_share must be between 0 and 1, not {self.first_token_share}")
        for name in ("paced_writes_max", "paced_writes_per_s", "recorded_calls_max"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
