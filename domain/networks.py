"""IP addresses and networks. An SMTP client in a network of a relay user needs no password."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from domain.errors import InvalidValue

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


# The private networks of RFC 1918 begin at /8; a site's of RFC 4193 and a provider's allocation are no larger than /32.
_WIDEST = {4: 8, 6: 32}


def read_networks(texts: Iterable[str]) -> tuple[str, ...]:
    """Read networks and return each once, in its canonical form; a single address is a network of one address.

    Raises:
        InvalidValue: a text is not a network, or the network is too wide to belong to a client.
    """
    return tuple(dict.fromkeys(str(_network(text)) for text in texts))


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise _not_a_network(text) from None
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.scope_id:
        raise InvalidValue("network", "network_has_zone", value=text)
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped:
        raise InvalidValue("network", "network_is_ipv4", value=text)
    widest = _WIDEST[network.version]
    if network.prefixlen < widest:
        raise InvalidValue("network", "network_too_wide", value=text, widest=widest)
    return network


def _not_a_network(text: str) -> InvalidValue:
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return InvalidValue("network", "not_a_network", value=text)
    return InvalidValue("network", "network_has_host_bits", value=text, meant=str(meant))


def read_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Read a client's address; an IPv4-mapped IPv6 address becomes the IPv4 address (RFC 4291 section 2.5.5.2).

    Raises:
        InvalidValue: `text` is not an IP address.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidValue("address", "not_an_address", value=text) from None
    return getattr(address, "ipv4_mapped", None) or address
