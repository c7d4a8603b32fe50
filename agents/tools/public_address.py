"""Which addresses belong to the public internet. Pure: the list is here, the looking up is elsewhere."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Address = IPv4Address | IPv6Address

_REFUSED_V4 = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by carriers; some clouds keep their metadata service in it
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # the wire server of Azure, in a public range
        "169.254.0.0/16",  # link-local, with the metadata service of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_GLOBAL_UNICAST_V6 = ip_network("2000::/3")
_REFUSED_V6 = tuple(
    ip_network(network)
    for network in (
        "2001::/23",  # protocol assignments, with Teredo, which wraps an IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which wraps an IPv4 address
        "3fff::/20",  # documentation
    )
)
_INSIDE = tuple(
    ip_network(network)
    for network in ("10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)
_METADATA = (
    ip_network("fd00:ec2::/32"),  # of Amazon's machines
    ip_network("fd20:ce::/32"),  # of Google's
)
_NAT64 = ip_network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether anyone on the internet would reach the same machine at this address.

    An IPv4 address inside an IPv6 one (mapped, or translated by NAT64) counts as the IPv4 address. A translation prefix
    that an operator chose within global unicast space cannot be told from other addresses.
    """
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _REFUSED_V4)
    if address.scope_id is not None:
        return False
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    return address in _GLOBAL_UNICAST_V6 and not any(address in network for network in _REFUSED_V6)


def is_inside(address: Address) -> bool:
    """Whether it is of a private network, or of this machine; metadata services of clouds are not."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        if address.ipv4_mapped is not None:
            return is_inside(address.ipv4_mapped)
    return any(address in network for network in _INSIDE) and not any(address in network for network in _METADATA)


def parse_address(text: str) -> Address | None:
    """The address that `text` is, in its one canonical notation; None for a name."""
    try:
        return ip_address(text)
    except ValueError:
        return None
