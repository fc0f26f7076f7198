"""What the whole path can do: the extensions that every mail server behind the relay is known to have."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from adapters.mail.transcript import Ended
from adapters.relay.door import Admission, Door, MailServerAddress
from adapters.relay.smtp_upstream import Extensions, SMTPUpstream
from adapters.relay.upstream import Dialer
from domain.catalogue import Protocol
from domain.errors import MailtokenError

log = structlog.get_logger("mailtoken")

_KEYWORDS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
_LOOK_EVERY_SECONDS = 3600.0
_LOOK_AGAIN_SECONDS = 60.0

_Place = tuple[str, int]


class Capabilities:
    """What to offer to a client before it is known who it is. `message_size` is our own limit in octets."""

    def __init__(self, message_size: int) -> None:
        self._message_size = message_size
        self._known: dict[_Place, Extensions] = {}
        self.offered: tuple[str, ...] = ()

    def learn(self, server: MailServerAddress | Admission, extensions: Extensions) -> None:
        """A server has said what it can do."""
        place = (server.server, server.port)
        if self._known.get(place) != extensions:
            self._known[place] = extensions
            self._offer()

    async def keep_looking(self, dialer: Dialer, door: Door) -> None:
        """Ask the servers that relay users are mapped to, now and from time to time; never returns."""
        while True:
            everything = await self.look(dialer, door)
            await asyncio.sleep(_LOOK_EVERY_SECONDS if everything else _LOOK_AGAIN_SECONDS)

    async def look(self, dialer: Dialer, door: Door) -> bool:
        """Ask each server once, without signing in; returns whether all of them answered."""
        try:
            servers = [server for server in await door.servers() if server.protocol is Protocol.SMTP]
        except MailtokenError as error:
            log.warning("mail servers not known", why=str(error))
            return False
        self._forget_others(servers)
        answers = await asyncio.gather(*(self._look_at(dialer, server) for server in servers))
        return all(answers)

    async def _look_at(self, dialer: Dialer, server: MailServerAddress) -> bool:
        try:
            self.learn(server, await SMTPUpstream.look(dialer, server))
        except Ended as ended:
            log.warning("mail server does not say what it can do", server=server.server, why=ended.verdict)
            return False
        return True

    def _forget_others(self, servers: Sequence[MailServerAddress]) -> None:
        places = {(server.server, server.port) for server in servers}
        self._known = {place: extensions for place, extensions in self._known.items() if place in places}
        self._offer()

    def _offer(self) -> None:
        known = list(self._known.values())
        shared = [keyword for keyword in _KEYWORDS if known and all(keyword in extensions for extensions in known)]
        sizes = [extensions.size for extensions in known]
        if sizes and None not in sizes:
            shared.append(f"SIZE {min(size for size in (*sizes, self._message_size) if size)}")
        self.offered = tuple(shared)
