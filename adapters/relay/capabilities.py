"""The SMTP extensions that the relay offers.

Before a client has signed in, they are those that all mail servers of relay users have, with the largest message that
any of the servers takes: a client bounces what is larger for good (RFC 1870). After the sign-in they are those of the
user's own mail server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from adapters.mail.dialer import Dialer
from adapters.mail.report import ConversationFailed
from adapters.mail.server_address import MailServerAddress
from adapters.mail.smtp_client import Extensions, SMTPSession
from adapters.relay.admission import AdmissionClient
from domain.catalogue import Protocol
from domain.errors import MailtokenError

log = structlog.get_logger("mailtoken")

_KEYWORDS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN")
_LOOK_SECONDS = 20
_LOOK_EVERY_SECONDS = 3600.0
_LOOK_AGAIN_SECONDS = 60.0

_Place = tuple[str, int]


class Capabilities:
    """The extensions to offer before a client has signed in. `message_size` is the relay's own limit in octets."""

    def __init__(self, message_size: int) -> None:
        self._message_size = message_size
        self._known: dict[_Place, Extensions] = {}
        self.offered: tuple[str, ...] = ()

    def learn(self, server: MailServerAddress, extensions: Extensions) -> None:
        """Note the extensions of a mail server."""
        place = (server.server, server.port)
        if self._known.get(place) != extensions:
            self._known[place] = extensions
            self._offer()

    def of(self, server: MailServerAddress) -> tuple[str, ...]:
        """The extensions to offer to a client whose mail goes to this server."""
        extensions = self._known.get((server.server, server.port))
        return self.offered if extensions is None else self._shared([extensions])

    async def keep_looking(self, dialer: Dialer, admission_client: AdmissionClient) -> None:
        """Ask the mail servers of all relay users for their extensions, now and once an hour; never returns."""
        while True:
            everything = False
            try:
                everything = await self.look(dialer, admission_client)
            except Exception as error:
                # No server, and no reply of the service, ends the looking.
                log.warning("capabilities_not_read", why=repr(error))
            await asyncio.sleep(_LOOK_EVERY_SECONDS if everything else _LOOK_AGAIN_SECONDS)

    async def look(self, dialer: Dialer, admission_client: AdmissionClient) -> bool:
        """Ask each mail server once, without signing in; returns whether all servers replied."""
        try:
            servers = [server for server in await admission_client.servers() if server.protocol is Protocol.SMTP]
        except MailtokenError as error:
            log.warning("mail_servers_not_read", why=str(error))
            return False
        self._forget_others(servers)
        answers = await asyncio.gather(*(self._look_at(dialer, server) for server in servers))
        return all(answers)

    async def _look_at(self, dialer: Dialer, server: MailServerAddress) -> bool:
        try:
            session = await SMTPSession.open(dialer, server, _LOOK_SECONDS)
            await session.close()
            self.learn(server, session.extensions)
        except ConversationFailed as failed:
            log.warning("capabilities_not_read", server=server.server, why=str(failed))
            return False
        return True

    def _forget_others(self, servers: Sequence[MailServerAddress]) -> None:
        places = {(server.server, server.port) for server in servers}
        self._known = {place: extensions for place, extensions in self._known.items() if place in places}
        self._offer()

    def _offer(self) -> None:
        self.offered = self._shared(list(self._known.values()))

    def _shared(self, known: Sequence[Extensions]) -> tuple[str, ...]:
        if not known:
            return ()
        shared = [keyword for keyword in _KEYWORDS if all(keyword in extensions for extensions in known)]
        # A server that names no limit leaves the relay's own.
        largest = max(extensions.size or self._message_size for extensions in known)
        return (*shared, f"SIZE {min(largest, self._message_size)}")
