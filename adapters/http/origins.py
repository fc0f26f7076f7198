"""Where a request over TCP comes from: the peer itself, or whom a trusted proxy says it forwards for.

What forwarding headers say counts only if the peer is one of `[server] trusted_proxies`; from anybody else they are
anybody's invention.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Headers = Mapping[str, str]

# Some proxies add the client's port (Azure's Application Gateway does), which is another one for each connection.
_WITH_PORT = re.compile(r"\[(?P<v6>[^\]]+)\](?::[0-9]+)?|(?P<v4>[0-9.]+):[0-9]+")


@dataclass(frozen=True)
class Origin:
    """The address and scheme that the client itself used."""

    address: str
    scheme: str

    @property
    def is_secure(self) -> bool:
        """Whether the client came over TLS."""
        return self.scheme == "https"


class Origins:
    """Tells origins; `trusted_proxies` are addresses and networks."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._trusted = tuple(map(ipaddress.ip_network, trusted_proxies))

    def of(self, scope: Mapping[str, Any], headers: Headers) -> Origin:
        """The origin of a request (ASGI HTTP connection scope)."""
        client = scope["client"]
        address, scheme = client[0] if client else "", scope["scheme"]
        if not self._trusted or not self._is_trusted(address):
            return Origin(address, scheme)
        forwarded = headers.get("x-forwarded-for", "")
        # Each proxy adds whom it saw at the right: what is left of the first that is none of ours is hearsay.
        chain = [_address(hop.strip()) for hop in forwarded.split(",") if hop.strip()]
        hops = (hop for hop in reversed(chain) if not self._is_trusted(hop))
        proto = headers.get("x-forwarded-proto", scheme).rpartition(",")[2].strip().lower()
        return Origin(next(hops, address), "https" if proto == "https" else "http")

    def _is_trusted(self, address: str) -> bool:
        try:
            read = ipaddress.ip_address(address)
        except ValueError:
            return False
        place = getattr(read, "ipv4_mapped", None) or read
        return any(place in network for network in self._trusted)


def _address(hop: str) -> str:
    match = _WITH_PORT.fullmatch(hop)
    return match["v6"] or match["v4"] if match else hop
