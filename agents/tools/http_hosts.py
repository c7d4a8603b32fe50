"""The hosts that the operator lets agents write to, and what is sent to them beyond what a model asks for."""

from collections.abc import Mapping

from msgspec import Struct

from agents.tools.secret import Secret

MIN_REDACTED_CHARS = 6
"""Of a secret that is looked for in an answer: shorter ones are in any text."""


class HttpHosts(Struct, frozen=True, kw_only=True):
    """`public` and `private` are origins, as `https://api.example.com` or `http://billing:8080`.

    Hosts of `private` may have addresses of the network inside. `headers` go to their origin; no model
    sees them.
    """

    public: frozenset[str] = frozenset()
    private: frozenset[str] = frozenset()
    headers: Mapping[str, Mapping[str, Secret]] = {}

    @property
    def all(self) -> frozenset[str]:
        return self.public | self.private

    def headers_of(self, origin: str) -> dict[str, str]:
        return {name: value.reveal() for name, value in self.headers.get(origin, {}).items()}

    def without_secrets(self, origin: str, text: str) -> str:
        """A server may answer with what was sent to it."""
        for value in self.headers_of(origin).values():
            # Of `Bearer TOKEN` the token too, after the whole.
            for secret in (value, value.rpartition(" ")[2]):
                if len(secret) >= MIN_REDACTED_CHARS:
                    text = text.replace(secret, "…")
        return text
