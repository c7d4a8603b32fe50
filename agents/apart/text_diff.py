"""The difference of two texts."""

from difflib import unified_diff

MAX_CONTEXT_LINES = 20


def compute(before: str, after: str, context_lines: int) -> str:
    """A unified diff, or a sentence where there is none."""
    if before == after:
        return "The texts are equal."
    lines = unified_diff(
        before.splitlines(), after.splitlines(), "before", "after", n=min(context_lines, MAX_CONTEXT_LINES), lineterm=""
    )
    return "\n".join(lines) or "The texts differ in line ends only."
