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

from adapters.practice.mailboxes import Admitted, Mailboxes, Malformed, Refused, Unavailable
from adapters.practice.sasl import Mechanism

log = logging.getLogger(__name__)

# RFC 4954 section 4. A token needs more than the 512 octets of RFC 5321, and more than aiosmtpd's 1001.
AUTH_LINE_LIMIT = 12_288
BASIC_REFUSED = "550 5.7.30 Basic authentication is not supported for Client Submission."


class SubmissionServer(SMTP):
    """One connection. `implicit_tls` is whether TLS began with the first byte."""

    line_length_limit = AUTH_LINE_LIMIT + len("\r\n")

    def __init__(self, mailboxes: Mailboxes, tls: ssl.SSLContext, *, implicit_tls: bool) -> None:
        super().__init__(
            self.new_handler(mailboxes),
            hostname="localhost",
            ident="Mailtoken practice mail server",
            enable_SMTPUTF8=True,
            tls_context=None if implicit_tls else tls,
            require_starttls=not implicit_tls,
            auth_require_tls=not implicit_tls,
        )
        self.mailboxes = mailboxes
        # aiosmtpd shares one dictionary between all connections and clears it at each new connection.
        self.command_size_limits = defaultdict(lambda: SMTP.command_size_limit, AUTH=AUTH_LINE_LIMIT)
        self._smtp_methods = {name: self._watched(name, method) for name, method in self._smtp_methods.items()}

    def new_handler(self, mailboxes: Mailboxes) -> "MailHandler":
        """The handler that aiosmtpd calls for senders and messages."""
        return MailHandler(mailboxes)

    def cut(self) -> None:
        """Close the connection at once."""
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Add this connection to the sessions; aiosmtpd calls this again after STARTTLS."""
        self.mailboxes.sessions.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Remove this connection from the sessions."""
        self.mailboxes.sessions.discard(self)
        super().connection_lost(error)

    async def smtp_AUTH(self, arg: str | None) -> None:  # noqa: N802
        """Accept a mechanism's name in any case (RFC 5321 section 2.4), which aiosmtpd doesn't."""
        mechanism, blank, response = (arg or "").partition(" ")
        await super().smtp_AUTH(mechanism.upper() + blank + response)

    async def auth_XOAUTH2(self, _: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
        """Authenticate by XOAUTH2, as Google's mechanism page specifies it."""
        return await self._authenticate_bearer("XOAUTH2", args)

    async def auth_OAUTHBEARER(self, _: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
        """Authenticate by OAUTHBEARER (RFC 7628)."""
        return await self._authenticate_bearer("OAUTHBEARER", args)

    async def auth_PLAIN(self, _: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
        """Refuse a password, as Exchange Online does."""
        return AuthResult(success=False, handled=False, message=BASIC_REFUSED)

    auth_LOGIN = auth_PLAIN  # noqa: N815

    async def check_auth_needed(self, caller_method: str) -> bool:
        """Require AUTH, with the reply text of Exchange Online."""
        assert self.session is not None
        if self.session.authenticated:
            return False
        await self.push("530 5.7.57 Client not authenticated to send mail.")
        return True

    def _create_session(self) -> SMTPSession:
        return _Session(self.loop)

    def _watched(self, name: str, command: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        @wraps(command)
        async def watched(arg: Any) -> None:
            self.mailboxes.commands.append(("smtp", name))
            await command(arg)

        return watched

    async def _authenticate_bearer(self, mechanism: Mechanism, args: list[str]) -> AuthResult:
        response = await self._client_response(args)
        if response is None:
            return AuthResult(success=False)
        attempt = await self.mailboxes.admit("smtp", mechanism, response, has_initial_response=len(args) > 1)
        match attempt.verdict:
            case Admitted(mailbox):
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
        """The client's response, from the command or after a prompt; None after an error reply to the client."""
        if len(args) == 1:
            response = await self.challenge_auth("")
            return None if response is MISSING else response
        try:
            return b64decode(args[1], validate=True)
        except binascii.Error:
            await self.push("501 5.5.2 Cannot decode response")
            return None


class _Session(SMTPSession):
    """aiosmtpd's session without its `login_data` property, which logs a warning at each sign-in."""

    login_data = None


class MailHandler:
    """Handles senders and messages; the names and parameters of the methods are aiosmtpd's."""

    def __init__(self, mailboxes: Mailboxes) -> None:
        self.mailboxes = mailboxes

    async def handle_MAIL(  # noqa: N802
        self, server: SubmissionServer, session: SMTPSession, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Let the mailbox send only as itself, as Exchange Online does without the permission Send As."""
        if address.casefold() != session.auth_data:
            return "550 5.7.60 SMTP; Client does not have permissions to send as this sender"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Sender OK"

    async def handle_DATA(self, server: SubmissionServer, session: SMTPSession, envelope: Envelope) -> str:  # noqa: N802
        """Deliver to every recipient; missing mailboxes are created."""
        assert isinstance(envelope.content, bytes)
        for address in envelope.rcpt_tos:
            self.mailboxes.deliver(address, envelope.content)
        return "250 2.0.0 OK: queued"

    async def handle_exception(self, error: Exception) -> str:
        """The reply to an error in the session; aiosmtpd raises ValueError for a line that is too long."""
        if isinstance(error, ValueError):
            return "500 5.5.6 Authentication exchange line is too long"
        log.error("session_failed", exc_info=error)
        return "451 4.3.0 Internal error"


def _failed(reply: str) -> AuthResult:
    return AuthResult(success=False, handled=False, message=reply)
