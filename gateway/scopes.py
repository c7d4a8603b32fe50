"""What a key may be used for."""

from enum import StrEnum


class Scope(StrEnum):
    """What a key may be used for."""

    SESSIONS_READ = "sessions:read"
    SESSIONS_WRITE = "sessions:write"
    AUDIT_READ = "audit:read"
    STATS_READ = "stats:read"
    DEAD_LETTERS_READ = "dead-letters:read"
    DEAD_LETTERS_WRITE = "dead-letters:write"
