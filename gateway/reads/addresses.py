"""Internet addresses as filters."""

from ipaddress import ip_address
from typing import Annotated

import msgspec

IpAddress = Annotated[str, msgspec.Meta(max_length=45)]


def is_address(text: str) -> bool:
    """Whether PostgreSQL takes it as one machine's address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text
