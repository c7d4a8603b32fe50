"""The record of calls that tests read back: how often each was started and completed, in bounded memory."""

from typing import Any, Literal

import msgspec

Outcome = Literal["completed", "failed", "abandoned"]


class Tally:
    """Counts per key. When full, the older half of the keys is forgotten."""

    def __init__(self, keys_max: int) -> None:
        self._generation_max = max(1, keys_max // 2)
        self._young: dict[str, int] = {}
        self._old: dict[str, int] = {}
        self.forgotten = 0

    def add(self, key: str) -> int:
        """Count one for `key` and return its count, this one included."""
        count = self._young.get(key)
        if count is None:
            count = self._old.pop(key, 0) if self._old else 0
            if len(self._young) >= self._generation_max:
                self.forgotten += len(self._old)
                self._old, self._young = self._young, {}
        count += 1
        self._young[key] = count
        return count

    def counts(self) -> dict[str, int]:
        return {**self._old, **self._young}


class CallTotals(msgspec.Struct):
    started: int = 0
    completed: int = 0
    failed: int = 0
    """Ended by a fault or refused."""
    abandoned: int = 0
    """The caller went away before the end."""
    in_flight: int = 0
    in_flight_peak: int = 0


class CallLedger:
    """Every call of `POST /v1/messages` since the last reset."""

    def __init__(self, keys_max: int) -> None:
        self._keys_max = keys_max
        self.totals = CallTotals()
        self.reset()

    def reset(self) -> None:
        """Forget all but the calls in flight."""
        # Four tallies share the bound: started and completed, per fingerprint and per call id.
        share = max(2, self._keys_max // 4)
        self._started, self._completed = Tally(share), Tally(share)
        self._started_ids, self._completed_ids = Tally(share), Tally(share)
        in_flight = self.totals.in_flight
        self.totals = CallTotals(in_flight=in_flight, in_flight_peak=in_flight)

    def start(self, fingerprint: str, call_id: str | None) -> int:
        """Count the start of a call; returns how often this same body has been seen, this time included."""
        totals = self.totals
        totals.started += 1
        totals.in_flight += 1
        totals.in_flight_peak = max(totals.in_flight_peak, totals.in_flight)
        if call_id is not None:
            self._started_ids.add(call_id)
        return self._started.add(fingerprint)

    def end(self, fingerprint: str, call_id: str | None, outcome: Outcome) -> None:
        """Count the end of a call that was started."""
        totals = self.totals
        totals.in_flight -= 1
        if outcome == "failed":
            totals.failed += 1
        elif outcome == "abandoned":
            totals.abandoned += 1
        else:
            totals.completed += 1
            self._completed.add(fingerprint)
            if call_id is not None:
                self._completed_ids.add(call_id)

    def snapshot(self, *, is_brief: bool = False) -> dict[str, Any]:
        """Return the totals as JSON-ready data, and unless brief the counts per call id and per fingerprint."""
        if is_brief:
            return {"totals": msgspec.to_builtins(self.totals)}
        return {
            "totals": msgspec.to_builtins(self.totals),
            "forgotten": self._started.forgotten + self._started_ids.forgotten,
            "calls": _joined(self._started_ids, self._completed_ids),
            "fingerprints": _joined(self._started, self._completed),
        }


def _joined(started: Tally, completed: Tally) -> dict[str, dict[str, int]]:
    done = completed.counts()
    return {key: {"started": count, "completed": done.get(key, 0)} for key, count in started.counts().items()}
