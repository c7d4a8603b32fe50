"""What an outgoing request may reach, and how much of the answer is read."""

from collections.abc import Awaitable, Callable

from msgspec import Struct

from agents.tools.public_address import Address, is_inside, is_public

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""From host name and port to addresses; raises OSError where there are none."""


class FetchBounds(Struct, frozen=True, kw_only=True):
    """`allow_addresses` may be reached though they are not public; meant for tests against servers on this machine.

    `allow_inside`: addresses of the network inside may be reached, but none that only this machine's provider answers.
    """

    allow_addresses: frozenset[Address] = frozenset()
    allow_inside: bool = False
    ports: frozenset[int] = frozenset({80, 443})
    max_body_bytes: int = 1 << 20  # After decompression: ten times what the model gets to read.
    max_redirects: int = 5
    timeout_s: float = 15.0  # Of everything together: names, redirects, body.

    def allows(self, address: Address) -> bool:
        return is_public(address) or address in self.allow_addresses or (self.allow_inside and is_inside(address))
