"""Tokens of a request, and the prompt cache: a marked prefix that was seen before counts as read from the cache.

As at the real API, a prefix is written where a `cache_control` mark stands, and is found again up to 20 blocks before a
mark of a later request. Unlike there, a prefix needs no minimum length, so that small tests and demos show the cache.
"""

from collections.abc import Iterator

import msgspec

from headrace.simulated_model.requests import Block, Prompt

CHARACTERS_PER_TOKEN = 4
LOOKBACK_BLOCKS = 20
TTL_S = {"5m": 300.0, "1h": 3600.0}
CACHED_PREFIXES_MAX = 100_000

Segment = tuple[int, int, float]
"""One unit of the prompt that can carry a mark (all tools together, or one block): identity, characters, seconds to
live or 0 without a mark."""


class InputUsage(msgspec.Struct, frozen=True):
    """Input tokens; the three parts add up to the whole prompt."""

    uncached: int
    written: int
    read: int

    @property
    def total(self) -> int:
        return self.uncached + self.written + self.read


def tokens_in(characters: int) -> int:
    return -(-characters // CHARACTERS_PER_TOKEN)


def count_tokens(prompt: Prompt) -> int:
    """Estimate the input tokens of a prompt; its usage parts add up to this."""
    characters = len(prompt.tools)
    if prompt.system:
        characters += len(prompt.system) if isinstance(prompt.system, str) else _characters(prompt.system)
    for message in prompt.messages:
        content = message.content
        characters += len(content) if isinstance(content, str) else _characters(content)
    return tokens_in(characters)


class PromptCache:
    """The prefixes seen so far, each until its time to live has passed since its last use."""

    def __init__(self) -> None:
        self._expires_at: dict[int, float] = {}

    def use(self, prompt: Prompt, now_s: float) -> InputUsage:
        """Account for one request at the monotonic time `now_s`, and remember its marked prefixes."""
        keys: list[int] = []
        ends: list[int] = []
        marks: list[tuple[int, float]] = []
        key, characters = hash(prompt.model), 0
        for identity, size, ttl_s in _segments(prompt):
            key = hash((key, identity))
            characters += size
            if ttl_s:
                marks.append((len(keys), ttl_s))
            keys.append(key)
            ends.append(characters)
        total = tokens_in(characters)
        if prompt.cache_control and keys:
            marks.append((len(keys) - 1, TTL_S[prompt.cache_control.ttl]))
        if not marks:
            return InputUsage(uncached=total, written=0, read=0)
        hit = self._longest_hit(keys, marks, now_s)
        read = tokens_in(ends[hit]) if hit >= 0 else 0
        marked = tokens_in(ends[marks[-1][0]])
        self._remember([(keys[position], ttl_s) for position, ttl_s in marks], now_s)
        return InputUsage(uncached=total - max(marked, read), written=max(marked - read, 0), read=read)

    def _longest_hit(self, keys: list[int], marks: list[tuple[int, float]], now_s: float) -> int:
        for mark, ttl_s in reversed(marks):
            for position in range(mark, max(mark - LOOKBACK_BLOCKS, -1), -1):
                if self._expires_at.get(keys[position], 0.0) > now_s:
                    self._expires_at[keys[position]] = now_s + ttl_s
                    return position
        return -1

    def _remember(self, prefixes: list[tuple[int, float]], now_s: float) -> None:
        if len(self._expires_at) >= CACHED_PREFIXES_MAX:
            self._expires_at = {key: end for key, end in self._expires_at.items() if end > now_s}
            if len(self._expires_at) > CACHED_PREFIXES_MAX // 2:
                self._expires_at.clear()
        for key, ttl_s in prefixes:
            self._expires_at[key] = now_s + ttl_s


def _segments(prompt: Prompt) -> Iterator[Segment]:
    if prompt.tools:
        raw = bytes(prompt.tools)
        yield hash(raw), len(raw), TTL_S["5m"] if b'"cache_control"' in raw else 0.0
    if isinstance(prompt.system, str):
        yield _text_segment("system", prompt.system)
    elif prompt.system:
        for block in prompt.system:
            yield _block_segment("system", block)
    for message in prompt.messages:
        if isinstance(message.content, str):
            yield _text_segment(message.role, message.content)
        else:
            for block in message.content:
                yield _block_segment(message.role, block)


def _text_segment(role: str, text: str) -> Segment:
    return hash((role, "text", text)), len(text), 0.0


def _block_segment(role: str, block: Block) -> Segment:
    """A block without its mark, so that a prefix is found again after the mark has moved on."""
    ttl_s = TTL_S[block.cache_control.ttl] if block.cache_control else 0.0
    if block.type == "text":
        return hash((role, "text", block.text)), len(block.text or ""), ttl_s
    identity = hash(
        (
            role,
            block.type,
            block.id,
            block.name,
            bytes(block.input),
            block.tool_use_id,
            bytes(block.content),
            block.is_error,
            bytes(block.source),
            block.thinking,
            block.data,
        )
    )
    return identity, _characters([block]), ttl_s


def _characters(blocks: list[Block]) -> int:
    count = 0
    for block in blocks:
        if block.type == "text":
            count += len(block.text or "")
        else:
            count += len(block.input) + len(block.content) + len(block.source)
            count += len(block.name or "") + len(block.thinking or "") + len(block.data or "")
    return count
