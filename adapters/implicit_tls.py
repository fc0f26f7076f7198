"""TLS that begins with the first octet, on a connection that the event loop has accepted in clear.

Octets that arrive before the loop's own `start_tls` has put its protocol in place belong to the handshake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast


async def begin_implicit_tls(
    transport: asyncio.Transport, take_early: Callable[[], bytes], *arguments: Any, **options: Any
) -> asyncio.Transport | None:
    """Run the loop's `start_tls` on a transport; `take_early` gives the octets that have come before it.

    Returns None if the connection was lost during the handshake, as uvloop does. Raises as `start_tls` does.
    """
    loop = asyncio.get_running_loop()
    starting = loop.create_task(loop.start_tls(transport, *arguments, **options))
    # The first step of `start_tls` puts its own protocol in place and schedules its start, which precedes the feeding.
    await asyncio.sleep(0)
    if early := take_early():
        loop.call_soon(feed, transport, early)
    return await starting


def feed(transport: asyncio.Transport, octets: bytes) -> None:
    """Hand the buffered protocol of a transport octets that were already read from it."""
    protocol = cast("asyncio.BufferedProtocol", transport.get_protocol())
    while octets:
        room = memoryview(protocol.get_buffer(len(octets)))
        count = min(len(room), len(octets))
        room[:count] = octets[:count]
        protocol.buffer_updated(count)
        octets = octets[count:]
