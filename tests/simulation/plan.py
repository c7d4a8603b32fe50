"""What a run depends on, and nothing else."""

from dataclasses import dataclass

STEPS = 150
"""Of a run, while faults happen; then everything comes to rest."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Plan:
    """One run.

    `seed`: what is drawn. `steps`: while faults happen. `without`: kinds of faults that do nothing where they would
    happen. `often`: kinds that come often, whatever the seed says. `is_fenced`: whether the broker refuses what comes
    from a claim that is over; without it, what it is for is found. `workers` at most, and `partitions`: of the seed,
    where nobody says.
    """

    seed: int
    steps: int = STEPS
    without: frozenset[str] = frozenset()
    often: frozenset[str] = frozenset()
    is_fenced: bool = True
    workers: int | None = None
    partitions: int | None = None

    def command(self) -> str:
        parts = [f"make sim SEED={self.seed}"]
        if self.steps != STEPS:
            parts.append(f"STEPS={self.steps}")
        if self.without:
            parts.append(f"WITHOUT='{','.join(sorted(self.without))}'")
        return " ".join(parts)
