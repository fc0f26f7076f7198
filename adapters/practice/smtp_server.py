"""SMTP submission (RFC 6409) with AUTH XOAUTH2 and OAUTHBEARER, on aiosmtpd, in the manner of Exchange Online."""

import asyncio
import binascii
import logging
import ssl
from base64 import b64decode
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, assert_never

from aiosmtpd.smtp import MISSING, SMTP, AuthResult, Envelope
from aiosmtpd.smtp import Session as SMTPSession

from adapters.practice.mail_faults import (
    END_OF_DATA,
    GREETING,
    Answer,
    FailAfterAuth,
    InsteadOfCommand,
    StripStartTLS,
)
from adapters.practice.mail_house import Admitted, MailHouse, Malformed, Refused, Unavailable
from adapters.practice.sasl import Mechanism

log = logging.getLogger(__name__)

# RFC 4954 section 4: a token needs far more than the 512 octets of RFC 5321 and aiosmtpd's 1001.
AUTH_LINE_LIMIT = 12_288
BASIC_REFUSED = "550 5.7.30 Basic authentication is not supported for Client Submission."


class SubmissionServer(SMTP):
    """One connection. `implicit_tls` says that it was TLS from its first byte."""

    line_length_limit = AUTH_LINE_LIMIT + len("\r\n")

    def __init__(self, house: MailHouse, tls: ssl.SSLContext, *, implicit_tls: bool) -> None:
        super().__init__(
            _Handler(house),
            hostname="localhost",
            ident="Mailtoken practice mail server",
            enable_SMTPUTF8=True,
            tls_context=None if implicit_tls else tls,
            require_starttls=not implicit_tls,
            auth_require_tls=not implicit_tls,
        )
        self.house = house
        self.hides_starttls = False
        self.fails_next: FailAfterAuth | None = None
        # aiosmtpd keeps one dictionary for all connections and clears it at each new one.
        self.command_size_limits = defaultdict(lambda: SMTP.command_size_limit, AUTH=AUTH_LINE_LIMIT)
        self._smtp_methods = {name: self._watched(name, method) for name, method in self._smtp_methods.items()}

    async def say(self, line: str) -> None:
        """Send one reply."""
        await self.push(line)

    def hang_up(self) -> None:
        """Close the connection, once what was said is sent."""
        if self.transport is not None:
            self.transport.close()

    def cut(self) -> None:
        """Close the connection at once."""
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the sessions; called again when STARTTLS is done."""
        self.house.sessions.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Leave the sessions."""
        self.house.sessions.discard(self)
        super().connection_lost(error)

    async def smtp_AUTH(self, arg: str | None) -> None:  # noqa: N802
        """Take a mechanism's name in any case (RFC 5321 section 2.4); aiosmtpd doesn't."""
        mechanism, blank, response = (arg or "").partition(" ")
        await super().smtp_AUTH(mechanism.upper() + blank + response)

    async def smtp_STARTTLS(self, arg: str) -> None:  # noqa: N802
        """Don't know it if it isn't offered."""
        if self.hides_starttls:
            await self.push("500 5.3.3 Unrecognized command")
        else:
            await super().smtp_STARTTLS(arg)

    async def auth_XOAUTH2(self, _: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
        """Authenticate as Google's mechanism page says."""
        return await self._authenticate_bearer("XOAUTH2", args)

    async def auth_OAUTHBEARER(self, _: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
        """Authenticate as RFC 7628 says."""
        return await self._authenticate_bearer("OAUTHBEARER", args)

    async def auth_PLAIN(self, _: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
        """Refuse."""
        return AuthResult(success=False, handled=False, message=BASIC_REFUSED)

    auth_LOGIN = auth_PLAIN  # noqa: N815

    async def check_auth_needed(self, caller_method: str) -> bool:
        """Demand AUTH, in Exchange's words."""
        assert self.session is not None
        if self.session.authenticated:
            return False
        await self.push("530 5.7.57 Client not authenticated to send mail.")
        return True

    def _create_session(self) -> SMTPSession:
        return _Session(self.loop)

    async def _handle_client(self) -> None:
        if await self._met_fault(GREETING):
            self.hang_up()
        else:
            await super()._handle_client()

    def _watched(self, name: str, command: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        @wraps(command)
        async def watched(arg: Any) -> None:
            self.house.commands.append(("smtp", name))
            if not await self._met_fault(name):
                await command(arg)

        return watched

    async def _met_fault(self, name: str) -> bool:
        failing, self.fails_next = self.fails_next, None
        if failing is not None:
            await self.push(failing.reply or "530 5.7.57 Client not authenticated to send mail.")
            return True
        fault = self.house.misbehaviours.meet(InsteadOfCommand, "smtp", name)
        if fault is not None:
            await fault.happen(self)
        return fault is not None

    async def _authenticate_bearer(self, mechanism: Mechanism, args: list[str]) -> AuthResult:
        response = await self._client_response(args)
        if response is None:
            return AuthResult(success=False)
        attempt = await self.house.admit("smtp", mechanism, response, has_initial_response=len(args) > 1)
        match attempt.verdict:
            case Admitted(mailbox):
                self.fails_next = self.house.misbehaviours.meet(FailAfterAuth, "smtp", "AUTH")
                return AuthResult(success=True, auth_data=mailbox)
            case Refused(challenge):
                closing = await self.challenge_auth(challenge)
                if closing is MISSING:
                    return AuthResult(success=False)
                attempt.closing_response = closing
                return _failed("535 5.7.3 Authentication unsuccessful")
            case Unavailable():
                return _failed("454 4.7.0 Temporary authentication failure")
            case Malformed():
                return _failed("501 5.5.2 Cannot decode response")
            case verdict:
                assert_never(verdict)

    async def _client_response(self, args: list[str]) -> bytes | None:
        """Take the response from the command, or ask for it; None once the client has been told why not."""
        if len(args) == 1:
            response = await self.challenge_auth("")
            return None if response is MISSING else response
        try:
            return b64decode(args[1], validate=True)
        except binascii.Error:
            await self.push("501 5.5.2 Cannot decode response")
            return None


class _Session(SMTPSession):
    """aiosmtpd's session; its own `login_data` logs a warning at each login."""

    login_data = None


class _Handler:
    """What to do with senders and messages; names and parameters are aiosmtpd's."""

    def __init__(self, house: MailHouse) -> None:
        self._house = house

    async def handle_EHLO(  # noqa: N802
        self, server: SubmissionServer, session: SMTPSession, envelope: Envelope, hostname: str, replies: list[str]
    ) -> list[str]:
        session.host_name = hostname
        server.hides_starttls = self._house.misbehaviours.meet(StripStartTLS, "smtp", "EHLO") is not None
        return [reply for reply in replies if not (server.hides_starttls and "STARTTLS" in reply)]

    async def handle_MAIL(  # noqa: N802
        self, server: SubmissionServer, session: SMTPSession, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.casefold() != session.auth_data:
            return "550 5.7.60 SMTP; Client does not have permissions to send as this sender"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Sender OK"

    async def handle_DATA(self, server: SubmissionServer, session: SMTPSession, envelope: Envelope) -> str:  # noqa: N802
        match self._house.misbehaviours.meet(InsteadOfCommand, "smtp", END_OF_DATA):
            case Answer(reply):
                return reply
            case InsteadOfCommand() as fault:
                await fault.happen(server)
                raise ConnectionResetError
        assert isinstance(envelope.content, bytes)
        for address in envelope.rcpt_tos:
            self._house.deliver(address, envelope.content)
        return "250 2.0.0 OK: queued"

    async def handle_exception(self, error: Exception) -> str:
        if isinstance(error, ValueError):
            return "500 5.5.6 Authentication exchange line is too long"
        log.error("SMTP session failed", exc_info=error)
        return "451 4.3.0 Internal error"


def _failed(reply: str) -> AuthResult:
    return AuthResult(success=False, handled=False, message=reply)
