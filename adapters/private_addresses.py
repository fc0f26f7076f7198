"""The addresses of a provider's endpoints: one that is not public counts only if the configuration permits it.

A discovery document could otherwise lead requests, with the secrets in them, into the operator's own network, to this
machine or to a cloud's metadata service. An address is judged after the name is resolved and is the one connected to,
so a name that resolves to another address the next time (DNS rebinding) changes nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from enum import StrEnum

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
# Azure's agent (WireServer), which also answers requests for metadata, is at a public address.
_METADATA = frozenset({ipaddress.ip_address("168.63.129.16")})
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Network(StrEnum):
    """A kind of network that is not public. OTHER has link-local addresses, as of metadata services, and the rest."""

    LOOPBACK = "loopback"
    PRIVATE = "private"
    OTHER = "other"


def network_of(address: str) -> Network | None:
    """The kind of network of an IP address; None for a public one. A name or a malformed address is in OTHER."""
    try:
        ip = _embedded(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return Network.OTHER
    if ip.is_loopback:
        return Network.LOOPBACK
    if ip.is_global and not ip.is_multicast and ip not in _METADATA:
        return None
    is_odd = ip.is_link_local or ip.is_unspecified or ip.is_reserved
    return Network.PRIVATE if ip.is_private and not is_odd else Network.OTHER


def _embedded(ip: IPAddress) -> IPAddress:
    """The IPv4 address that an IPv6 address stands for, if it does: mapped, 6to4, Teredo or NAT64 (RFC 6052)."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)


class AddressRule:
    """The rule for the requests to one provider.

    The hosts in `allowed` may be at any address. So may the `authority`, the host of the issuer in the configuration
    file; None stands for an issuer that is not in the file. Every other host must be at a public address, or on
    loopback or a private network if the authority itself is on one of this kind.
    """

    def __init__(self, authority: str | None, allowed: Iterable[str] = ()) -> None:
        self._authority = None if authority is None else _name(authority)
        self._hosts = {*([] if self._authority is None else [self._authority]), *map(_name, allowed)}
        self._networks: set[Network] = set()

    def permitted(self, host: str, addresses: Iterable[str]) -> Sequence[str]:
        """Those of the addresses of the host that a request may go to."""
        if _name(host) in self._hosts:
            return list(addresses)
        return [address for address in addresses if self._is_permitted(network_of(address))]

    def permits_name(self, host: str) -> bool:
        """Whether a request may go to the host by its name alone, as far as the name is itself an address."""
        name = _name(host)
        try:
            network = network_of(str(ipaddress.ip_address(name)))
        except ValueError:
            network = Network.LOOPBACK if name == "localhost" or name.endswith(".localhost") else None
        return name in self._hosts or self._is_permitted(network)

    def reached(self, host: str, address: str) -> None:
        """Note the address at which a host proved its name by TLS."""
        if _name(host) == self._authority and (network := network_of(address)) in {Network.LOOPBACK, Network.PRIVATE}:
            self._networks.add(network)

    def _is_permitted(self, network: Network | None) -> bool:
        return network is None or network in self._networks


def _name(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()
