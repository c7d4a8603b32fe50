"""The `anthropic-ratelimit-*` headers: limits far above any load, with what is left of them in this minute."""

from datetime import UTC, datetime

from multidict import CIMultiDict

WINDOW_S = 60
LIMITS = {"requests": 1_000_000, "input-tokens": 1_000_000_000, "output-tokens": 200_000_000}


class RateLimitHeaders:
    """Counts what the calls of the current minute used. The headers are made anew at most once a second."""

    def __init__(self) -> None:
        self._used = dict.fromkeys(LIMITS, 0)
        self._window = 0
        self._made_at = 0
        self._headers: CIMultiDict[str] = CIMultiDict()

    def spend(self, input_tokens: int, output_tokens: int) -> None:
        used = self._used
        used["requests"] += 1
        used["input-tokens"] += input_tokens
        used["output-tokens"] += output_tokens

    def headers(self, request_id: str, content_type: str, now_unix_s: float) -> CIMultiDict[str]:
        """Return the headers of one response."""
        second = int(now_unix_s)
        if second != self._made_at:
            self._make(second)
        headers = self._headers.copy()
        headers["Content-Type"] = content_type
        headers["request-id"] = request_id
        return headers

    def _make(self, second: int) -> None:
        self._made_at = second
        window = second // WINDOW_S
        if window != self._window:
            self._window = window
            self._used = dict.fromkeys(LIMITS, 0)
        reset = datetime.fromtimestamp((window + 1) * WINDOW_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._headers = CIMultiDict()
        for name, limit in LIMITS.items():
            self._headers[f"anthropic-ratelimit-{name}-limit"] = str(limit)
            self._headers[f"anthropic-ratelimit-{name}-remaining"] = str(max(0, limit - self._used[name]))
            self._headers[f"anthropic-ratelimit-{name}-reset"] = reset
