"""The mail server a profile names: the connection test, and handing a message over.

No credential leaves before the connection is private: under verified TLS, or to this machine itself.
What servers answer, and networks fail to, is a report and never an exception.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from adapters.mail.connection import Connection, Garbled, Limits, resolve
from adapters.mail.imap import IMAPSession
from adapters.mail.pop import POPSession
from adapters.mail.sasl import ClientExchange, Mechanism, choose, client_response
from adapters.mail.smtp import Message, Reply, SMTPSession, listed
from adapters.mail.tls import client_context
from adapters.mail.transcript import Ended, Transcript
from domain.catalogue import Protocol
from domain.errors import InvalidValue
from domain.outcomes import Fault, MailReport
from domain.ports import MailServer
from domain.profile import ProfileState, is_loopback
from domain.secret import Secret

Session = SMTPSession | POPSession | IMAPSession
DEADLINE_SECONDS = 300.0


@dataclass(frozen=True)
class Login:
    """Whom to be, where. `responses` is what each mechanism would send, made before anything is."""

    host: str
    port: int
    tls: str
    user: str
    access_token: Secret
    responses: dict[Mechanism, bytes]

    @classmethod
    def of(cls, profile: ProfileState, access_token: Secret) -> Login:
        """What a profile says.

        Raises:
            InvalidValue: a field is missing, or can't be sent as it is.
        """
        host, user, tls = profile.settings.server, profile.mailbox, profile.settings.tls
        if not host:
            raise InvalidValue("server", "it is not filled in")
        if not user:
            raise InvalidValue("account", "it is not filled in")
        if tls == "none" and not is_loopback(host):
            raise InvalidValue("tls", "without TLS only a server on this machine is allowed; set starttls or implicit")
        responses = {
            mechanism: client_response(mechanism, user, host, profile.port, access_token) for mechanism in Mechanism
        }
        return cls(host, profile.port, tls, user, access_token, responses)

    def __repr__(self) -> str:
        return f"Login({self.user} at {self.where})"

    @property
    def where(self) -> str:
        """Host and port, for a person."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def secrets(self) -> list[str]:
        """What must not be seen, in each form in which it is sent."""
        return [
            self.access_token.reveal(),
            *(b64encode(response).decode() for response in self.responses.values()),
        ]


class MailServerClient(MailServer):
    """The mail servers there are, each as its profile names it.

    `deadline_seconds` is for a whole conversation, beside the profile's time-out for one operation; `preferred`
    is the mechanism where the server offers both.
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
        self._context = client_context(ca_file)
        self._deadline_seconds = deadline_seconds
        self._preferred = preferred

    def test(self, profile: ProfileState, access_token: Secret) -> MailReport:
        """Connect, secure the connection, sign in with the token and issue one more command."""

        def check(session: Session, transcript: Transcript) -> MailReport:
            if isinstance(session, SMTPSession):
                session.check(transcript, profile.settings.sender_address or profile.mailbox or "")
            else:
                session.check(transcript)
            _quit(session, transcript)
            return transcript.report(Fault.NONE, f"The server accepted the token for {profile.mailbox}.")

        return self._converse(profile, access_token, check)

    def submit(
        self, profile: ProfileState, access_token: Secret, sender: str, recipients: Sequence[str], message: bytes
    ) -> MailReport:
        """Hand a message over for delivery; bare line feeds in it become CRLF."""
        try:
            if profile.protocol != Protocol.SMTP:
                raise InvalidValue("protocol", f"{profile.name} receives; name an SMTP setting to send")
            checked = Message.of(sender, recipients, message)
        except InvalidValue as error:
            return MailReport((), Fault.CONFIGURATION, f"The message was not sent: {error}.")

        def deliver(session: Session, transcript: Transcript) -> MailReport:
            assert isinstance(session, SMTPSession)
            refused = session.deliver(transcript, checked)
            _quit(session, transcript)
            return _delivered(transcript, checked, refused)

        return self._converse(profile, access_token, deliver)

    def _converse(
        self, profile: ProfileState, access_token: Secret, work: Callable[[Session, Transcript], MailReport]
    ) -> MailReport:
        """Sign in and do `work`; whatever ends the conversation is in the report."""
        try:
            login = Login.of(profile, access_token)
        except InvalidValue as error:
            return MailReport((), Fault.CONFIGURATION, f"Nothing was sent: {error}.")
        transcript = Transcript(login.where, login.secrets)
        limits = Limits(profile.settings.timeout, self._deadline_seconds)
        try:
            with closing(_connect(login, limits, transcript)) as connection:
                session = _session(profile.protocol, connection)
                self._sign_in(login, connection, session, transcript)
                return work(session, transcript)
        except Ended as ended:
            return transcript.report(ended.fault, ended.verdict, ended.reply)

    def _sign_in(self, login: Login, connection: Connection, session: Session, transcript: Transcript) -> None:
        if login.tls == "implicit":
            self._secure(login, connection, transcript)
        with transcript.step("greeting") as note:
            note.detail = session.greet()
        if login.tls == "starttls":
            self._secure(login, connection, transcript, session.start_tls)
        with transcript.step("capabilities") as note:
            offered = session.mechanisms()
            note.detail = f"sign-in by {', '.join(sorted(offered)) or 'nothing'}"
            mechanism = choose(offered, self._preferred)
            if mechanism is None:
                raise Ended(
                    Fault.SERVER,
                    "The server offers no sign-in with a token (XOAUTH2 or OAUTHBEARER): check Server and Port, or ask"
                    " who runs it.",
                )
        with transcript.step("auth") as note:
            if not connection.is_private:
                raise Ended(Fault.CONFIGURATION, "The connection is not private, so no token was sent: set TLS.")
            reply = session.authenticate(ClientExchange(mechanism, login.responses[mechanism]))
            note.detail = f"{mechanism} as {login.user}: {reply}"

    def _secure(
        self, login: Login, connection: Connection, transcript: Transcript, ask: Callable[[], None] | None = None
    ) -> None:
        """Begin TLS, after asking for it in the protocol if it has to be asked for."""
        with transcript.step("tls") as note:
            if ask is not None:
                ask()
            note.detail = connection.secure(self._context, login.host)


def _connect(login: Login, limits: Limits, transcript: Transcript) -> Connection:
    with transcript.step("resolve") as note:
        addresses = resolve(login.host, login.port, limits)
        note.detail = ", ".join(addresses)
    with transcript.step("connect") as note:
        connection = Connection.open(addresses, login.port, limits)
        note.detail = connection.peer
    return connection


def _session(protocol: Protocol, connection: Connection) -> Session:
    match protocol:
        case Protocol.SMTP:
            return SMTPSession(connection)
        case Protocol.POP:
            return POPSession(connection)
        case Protocol.IMAP:
            return IMAPSession(connection)
        case _:
            assert_never(protocol)


def _quit(session: Session, transcript: Transcript) -> None:
    """Take leave; what was asked for has been done by now, whether or not the server answers this."""
    with transcript.step("quit") as note:
        try:
            note.detail = session.quit()
        except (OSError, Garbled):
            note.detail = "the connection ended without an answer"


def _delivered(transcript: Transcript, message: Message, refused: dict[str, Reply]) -> MailReport:
    """The verdict on a message that the server took, for all of its recipients or for some."""
    accepted = [recipient for recipient in message.recipients if recipient not in refused]
    if not refused:
        return transcript.report(Fault.NONE, f"The server accepted the message for {', '.join(accepted)}.")
    # Never a fault that invites to try again: the others would get the message twice.
    return transcript.report(
        Fault.MAILBOX,
        f"The message was sent to {', '.join(accepted)} but not to {', '.join(refused)}, which the server refused:"
        " check these and send it to them alone.",
        listed(refused),
    )
