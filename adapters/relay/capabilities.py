"""The SMTP extensions that the relay offers.

Before a client has signed in, they are those that all mail servers of relay users have, with the largest message that
any of the servers takes: a client bounces what is larger for good (RFC 1870). A server that has not replied yet may
take as much as the relay does. After the sign-in they are those of the user's own mail server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

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
        self._places: set[_Place] = set()
        self._is_changed = asyncio.Event()
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

    def note_change(self) -> None:
        """Have mail servers looked at that relay users have had since the last look."""
        self._is_changed.set()

    async def keep_looking(self, dialer: Dialer, admission_client: AdmissionClient) -> None:
        """Ask all mail servers of relay users for their extensions once an hour, and new ones now; never returns."""
        loop, due = asyncio.get_running_loop(), 0.0
        while True:
            self._is_changed.clear()
            is_due, is_complete = loop.time() >= due, False
            try:
                is_complete = await self.look(dialer, admission_client, only_new=not is_due)
            except Exception as error:
                # No server, and no reply of the service, ends the looking.
                log.warning("capabilities_not_read", why=repr(error))
            if is_due or not is_complete:
                due = loop.time() + (_LOOK_EVERY_SECONDS if is_complete else _LOOK_AGAIN_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._is_changed.wait()

    async def look(self, dialer: Dialer, admission_client: AdmissionClient, *, only_new: bool = False) -> bool:
        """Ask each mail server once, without signing in; returns whether all servers replied."""
        try:
            servers = [server for server in await admission_client.servers() if server.protocol is Protocol.SMTP]
        except MailtokenError as error:
            log.warning("mail_servers_not_read", why=str(error))
            return False
        self._forget_others(servers)
        wanted = [server for server in servers if not (only_new and (server.server, server.port) in self._known)]
        answers = await asyncio.gather(*(self._look_at(dialer, server) for server in wanted))
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
        self._places = {(server.server, server.port) for server in servers}
        self._known = {place: extensions for place, extensions in self._known.items() if place in self._places}
        self._offer()

    def _offer(self) -> None:
        is_everything = self._places <= self._known.keys()
        self.offered = self._shared(list(self._known.values()), 0 if is_everything else self._message_size)

    def _shared(self, known: Sequence[Extensions], at_least: int = 0) -> tuple[str, ...]:
        if not known:
            return ()
        shared = [keyword for keyword in _KEYWORDS if all(keyword in extensions for extensions in known)]
        # A server that names no limit leaves the relay's own.
        largest = max(at_least, *(extensions.size or self._message_size for extensions in known))
        return (*shared, f"SIZE {min(largest, self._message_size)}")
