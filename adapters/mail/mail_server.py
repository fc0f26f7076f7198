"""The mail server a profile names: the connection test, and handing a message over.

Refusals of the server and failures of the network become a report, never an exception. The caller's thread waits for
the whole conversation, which runs in an event loop of its own.
"""

from __future__ import annotations

import asyncio
import math
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from adapters.mail.dialer import Dialer
from adapters.mail.imap_client import IMAPSession
from adapters.mail.pop_client import POPSession
from adapters.mail.report import ConversationFailed, Transcript
from adapters.mail.sasl_client import Mechanism
from adapters.mail.server_address import MailboxLogin, MailServerAddress
from adapters.mail.session import MailSession, login_responses
from adapters.mail.smtp_client import SMTPReply, SMTPSession, listed
from adapters.mail.submission import Submission
from domain.catalogue import Protocol
from domain.errors import InvalidValue
from domain.mail_report import Fault, MailReport, Verdict
from domain.ports import MailServer
from domain.profile import ProfileState
from domain.secret import Secret

DEADLINE_SECONDS = 300.0

_SESSIONS: dict[Protocol, type[MailSession]] = {
    Protocol.SMTP: SMTPSession,
    Protocol.POP: POPSession,
    Protocol.IMAP: IMAPSession,
}

_AT_FAULT = {
    "message": Fault.MESSAGE,
    "recipient": Fault.MESSAGE,
    "recipients": Fault.MESSAGE,
    "sender": Fault.SENDER,
}
"""The party at fault for a value of a message that can't be sent; for any other it is the configuration."""
_Conversation = Callable[[MailSession, Transcript], Awaitable[MailReport]]


class MailServerClient(MailServer):
    """The client of the mail servers that profiles name.

    `deadline_seconds` limits a test, and the sign-in before a message, in addition to the profile's time-out for each
    reply; the commands of a message have the times of RFC 5321. `preferred` is the mechanism for a server that offers
    both.
    """

    def __init__(
        self,
        ca_file: Path | None,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        preferred: Mechanism = Mechanism.XOAUTH2,
    ) -> None:
        """Trust the system's authorities and those in `ca_file`.

        Raises:
            InvalidValue: `ca_file` can't be used.
        """
        # Without caches: a test checks the name and the certificate as they are now, and runs in its own event loop.
        self._dialer = Dialer(ca_file, caches=False)
        self._deadline_seconds = deadline_seconds
        self._preferred = preferred

    def test(self, profile: ProfileState, access_token: Secret) -> MailReport:
        """Connect, begin TLS, sign in with the token and send one more command that changes nothing."""

        async def check(session: MailSession, transcript: Transcript) -> MailReport:
            await session.check(transcript, profile.settings.sender_address or profile.mailbox or "")
            await session.quit(transcript)
            return transcript.report(Verdict("token_accepted", Fault.NONE, {"mailbox": profile.mailbox}))

        return self._converse(profile, access_token, check)

    def submit(
        self, profile: ProfileState, access_token: Secret, *, sender: str, recipients: Sequence[str], message: bytes
    ) -> MailReport:
        """Hand a message over for delivery; bare line feeds in it become CRLF."""
        try:
            if profile.protocol is not Protocol.SMTP:
                raise InvalidValue("protocol", "setting_receives_mail", profile=profile.name)
            checked = Submission.of(sender, recipients, message)
        except InvalidValue as error:
            fault = _AT_FAULT.get(error.field, Fault.CONFIGURATION)
            return MailReport((), Verdict("message_not_sendable", fault, cause=error))

        async def deliver(session: MailSession, transcript: Transcript) -> MailReport:
            assert isinstance(session, SMTPSession)
            session.connection.deadline = math.inf
            refused = await session.deliver(transcript, checked)
            await session.quit(transcript)
            return _delivered(transcript, checked, refused)

        return self._converse(profile, access_token, deliver)

    def _converse(self, profile: ProfileState, access_token: Secret, work: _Conversation) -> MailReport:
        """Sign in and do `work`; the report says how the conversation ended."""
        try:
            login = _login(profile, access_token)
            transcript = Transcript(login.address.where, _secrets(login))
        except InvalidValue as error:
            return MailReport((), Verdict("login_incomplete", Fault.CONFIGURATION, cause=error))
        try:
            return asyncio.run(self._conversation(login, transcript, work))
        except ConversationFailed as failed:
            return transcript.report(failed.verdict, failed.reply)

    async def _conversation(self, login: MailboxLogin, transcript: Transcript, work: _Conversation) -> MailReport:
        session = await _SESSIONS[login.address.protocol].sign_in(
            self._dialer,
            login,
            transcript=transcript,
            deadline_seconds=self._deadline_seconds,
            preferred=self._preferred,
        )
        try:
            return await work(session, transcript)
        finally:
            session.connection.abort()


def _login(profile: ProfileState, access_token: Secret) -> MailboxLogin:
    """The mail server, the mailbox and the token to sign in with.

    Raises:
        InvalidValue: the profile is incomplete.
    """
    settings = profile.settings
    if not settings.server:
        raise InvalidValue("server", "mail_field_empty")
    if not profile.mailbox:
        raise InvalidValue("account", "mail_field_empty")
    address = MailServerAddress(settings.server, profile.port, settings.tls, profile.protocol)
    return MailboxLogin(address, profile.mailbox, access_token, settings.timeout)


def _secrets(login: MailboxLogin) -> list[str]:
    """The token in each form in which it is sent.

    Raises:
        InvalidValue: a value has characters that the mechanism can't carry.
    """
    responses = login_responses(login)
    return [login.access_token.reveal(), *(b64encode(response).decode() for response in responses.values())]


def _delivered(transcript: Transcript, message: Submission, refused: dict[str, SMTPReply]) -> MailReport:
    """The verdict on a message that the server accepted, for all of its recipients or for some."""
    accepted = [recipient for recipient in message.recipients if recipient not in refused]
    if not refused:
        return transcript.report(Verdict("message_accepted", Fault.NONE, {"accepted": accepted}))
    # Never a fault that suggests another try: the accepted recipients would get the message twice.
    facts = {"accepted": accepted, "refused": list(refused)}
    return transcript.report(Verdict("message_accepted_in_part", Fault.MAILBOX, facts), listed(refused))
