"""The address and scheme a client itself used, which a reverse proxy reports in X-Forwarded-For and X-Forwarded-Proto.

These headers count only if the peer is one of `[server] trusted_proxies`: any other client can write anything there.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Headers = Mapping[str, str]

# Some proxies add the client's port (Azure's Application Gateway does), which differs for each connection.
_WITH_PORT = re.compile(r"\[(?P<v6>[^\]]+)\](?::[0-9]+)?|(?P<v4>[0-9.]+):[0-9]+")


@dataclass(frozen=True)
class Forwarded:
    """The client that made a request: its address, and the scheme it used."""

    address: str
    scheme: str

    @property
    def is_secure(self) -> bool:
        """Whether the client used TLS."""
        return self.scheme == "https"


class ForwardedHeaders:
    """Reads the headers of trusted proxies, which are addresses and networks."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._trusted = tuple(map(ipaddress.ip_network, trusted_proxies))

    def read(self, scope: Mapping[str, Any], headers: Headers) -> Forwarded:
        """The client of a request (ASGI HTTP connection scope)."""
        client = scope["client"]
        address, scheme = client[0] if client else "", scope["scheme"]
        if not self._trusted or not self.is_trusted(address):
            return Forwarded(address, scheme)
        forwarded = headers.get("x-forwarded-for", "")
        # Each proxy appends its own peer at the right. Addresses to the left of the first untrusted one may be made up.
        chain = [_address(hop.strip()) for hop in forwarded.split(",") if hop.strip()]
        hops = (hop for hop in reversed(chain) if not self.is_trusted(hop))
        proto = headers.get("x-forwarded-proto", scheme).rpartition(",")[2].strip().lower()
        return Forwarded(next(hops, address), "https" if proto == "https" else "http")

    def is_trusted(self, address: str) -> bool:
        """Whether a trusted proxy has this address."""
        try:
            read = ipaddress.ip_address(address)
        except ValueError:
            return False
        place = getattr(read, "ipv4_mapped", None) or read
        return any(place in network for network in self._trusted)


def _address(hop: str) -> str:
    match = _WITH_PORT.fullmatch(hop)
    return match["v6"] or match["v4"] if match else hop
