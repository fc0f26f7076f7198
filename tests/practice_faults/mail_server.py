"""The practice mail server with faults that a test injects."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope
from aiosmtpd.smtp import Session as SMTPSession

from adapters.practice.ca import PracticeCA
from adapters.practice.mail_server import PracticeMailServer
from adapters.practice.mailboxes import Mailboxes, MailProtocol
from adapters.practice.pop_server import PopSession
from adapters.practice.provider import PracticeProvider
from adapters.practice.sasl import Mechanism
from adapters.practice.smtp_server import MailHandler, SubmissionServer
from domain.catalogue import Protocol
from practice_faults.fault_injection import FaultInjection, InjectedFault
from practice_faults.mail_faults import (
    END_OF_DATA,
    GREETING,
    HANDSHAKE,
    Answer,
    FailAfterAuth,
    InsteadOfCommand,
    StripStartTLS,
    WrongCertificate,
    fault,
)


class FaultyMailboxes(Mailboxes):
    """What the SMTP and the POP3 server share, faults included."""

    def __init__(self, provider: PracticeProvider, shared: Mapping[str, AbstractSet[str]]) -> None:
        super().__init__(provider, shared)
        self.faults = FaultInjection()


class FaultySubmissionServer(SubmissionServer):
    """One SMTP connection, in which a command may meet a fault."""

    mailboxes: FaultyMailboxes

    def __init__(self, mailboxes: FaultyMailboxes, tls: ssl.SSLContext, *, implicit_tls: bool) -> None:
        super().__init__(mailboxes, tls, implicit_tls=implicit_tls)
        self.hides_starttls = False
        self.fails_next: FailAfterAuth | None = None

    def new_handler(self, mailboxes: Mailboxes) -> MailHandler:
        return FaultyMailHandler(mailboxes)

    async def say(self, line: str) -> None:
        """Send one reply."""
        await self.push(line)

    def hang_up(self) -> None:
        """Close the connection, once what was said is sent."""
        if self.transport is not None:
            self.transport.close()

    async def smtp_STARTTLS(self, arg: str) -> None:  # noqa: N802
        """Refuse the command if it isn't offered."""
        if self.hides_starttls:
            await self.push("500 5.3.3 Unrecognized command")
        else:
            await super().smtp_STARTTLS(arg)

    async def _handle_client(self) -> None:
        if await self._met_fault(GREETING):
            self.hang_up()
        else:
            await super()._handle_client()

    def _watched(self, name: str, command: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        async def unless_it_fails(arg: Any) -> None:
            if not await self._met_fault(name):
                await command(arg)

        return super()._watched(name, unless_it_fails)

    async def _met_fault(self, name: str) -> bool:
        failing, self.fails_next = self.fails_next, None
        if failing is not None:
            await self.push(failing.reply or "530 5.7.57 Client not authenticated to send mail.")
            return True
        met = self.mailboxes.faults.meet(InsteadOfCommand, "smtp", name)
        if met is not None:
            await met.happen(self)
        return met is not None

    async def _authenticate_bearer(self, mechanism: Mechanism, args: list[str]) -> AuthResult:
        result = await super()._authenticate_bearer(mechanism, args)
        if result.success:
            self.fails_next = self.mailboxes.faults.meet(FailAfterAuth, "smtp", "AUTH")
        return result


class FaultyMailHandler(MailHandler):
    """What to do with senders and messages; names and parameters are aiosmtpd's."""

    mailboxes: FaultyMailboxes

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: SMTPSession, envelope: Envelope, hostname: str, replies: list[str]
    ) -> list[str]:
        """Answer without STARTTLS if it is stripped; aiosmtpd leaves the client's name to this method."""
        assert isinstance(server, FaultySubmissionServer)
        session.host_name = hostname
        server.hides_starttls = self.mailboxes.faults.meet(StripStartTLS, "smtp", "EHLO") is not None
        return [reply for reply in replies if not (server.hides_starttls and "STARTTLS" in reply)]

    async def handle_DATA(self, server: SubmissionServer, session: SMTPSession, envelope: Envelope) -> str:  # noqa: N802
        match self.mailboxes.faults.meet(InsteadOfCommand, "smtp", END_OF_DATA):
            case Answer(reply):
                return reply
            case InsteadOfCommand() as met:
                assert isinstance(server, FaultySubmissionServer)
                await met.happen(server)
                raise ConnectionResetError
        return await super().handle_DATA(server, session, envelope)


class FaultyPopSession(PopSession):
    """One POP3 connection, in which a command may meet a fault."""

    mailboxes: FaultyMailboxes

    def __init__(
        self,
        mailboxes: FaultyMailboxes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        tls: ssl.SSLContext | None,
    ) -> None:
        super().__init__(mailboxes, reader, writer, tls)
        self._hides_stls = False
        self._fails_next: FailAfterAuth | None = None

    async def greet(self) -> None:
        if await self._met_fault(GREETING):
            self.hang_up()
        else:
            await super().greet()

    async def obey(self, name: str, arguments: list[str]) -> None:
        if await self._met_fault(name):
            return
        if name == "CAPA":
            self._hides_stls = self.mailboxes.faults.meet(StripStartTLS, "pop", "CAPA") is not None
        await super().obey(name, arguments)

    def offers_stls(self) -> bool:
        return super().offers_stls() and not self._hides_stls

    def admit(self, mailbox: str) -> None:
        self._fails_next = self.mailboxes.faults.meet(FailAfterAuth, "pop", "AUTH")
        super().admit(mailbox)

    async def _met_fault(self, name: str) -> bool:
        failing, self._fails_next = self._fails_next, None
        if failing is not None:
            await self.say(failing.reply or "-ERR User is authenticated but not connected.")
            return True
        met = self.mailboxes.faults.meet(InsteadOfCommand, "pop", name)
        if met is not None:
            await met.happen(self)
        return met is not None


class FaultyMailServer(PracticeMailServer):
    """The practice mail server. It answers as that does until a fault is injected."""

    mailboxes_class = FaultyMailboxes
    smtp_session_class = FaultySubmissionServer
    pop_session_class = FaultyPopSession
    _mailboxes: FaultyMailboxes

    def __init__(self, ca: PracticeCA, provider: PracticeProvider, **options: Any) -> None:
        super().__init__(ca, provider, **options)
        self._wrong_tls = ca.issue("somewhere-else.example").ssl_context()
        self._make_replaceable("smtp", self._smtp_tls)
        self._make_replaceable("pop", self._pop_tls)

    def close(self) -> None:
        """Let go of every client that waits, cut every connection, stop listening."""
        self.clear_faults()
        super().close()

    def inject_fault(
        self,
        mode: str,
        *,
        protocol: MailProtocol | Protocol | None = None,
        command: str | None = None,
        times: int | None = 1,
        **details: Any,
    ) -> InjectedFault:
        """Let the next `times` matching occasions go wrong, or all until `clear_faults` if `times` is None.

        `mode` is a key of `mail_faults.MODES`; `details` are the fields of the fault that it makes. "answer",
        "drop" and "hang" happen at `command`, AUTH by default; GREETING and END-OF-DATA stand for those points.
        """
        made, usual_command = fault(mode, **details)
        return self._mailboxes.faults.inject(InjectedFault(made, protocol, command or usual_command, times))

    def clear_faults(self) -> None:
        """End every fault, and let go of the clients that wait."""
        self._mailboxes.faults.clear()

    def _make_replaceable(self, protocol: MailProtocol, context: ssl.SSLContext) -> None:
        """Let a fault put another certificate in this one's place, at each handshake anew."""

        def choose(handshake: ssl.SSLObject, server_name: str | None, context: ssl.SSLContext) -> None:
            if self._mailboxes.faults.meet(WrongCertificate, protocol, HANDSHAKE):
                handshake.context = self._wrong_tls

        context.sni_callback = choose
