"""Sending and testing through a profile: the token first, then the mail server, and one renewal if that rejects it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid

from domain.catalogue import Protocol
from domain.errors import Failed, InvalidValue, NotFound, Refused, Unreachable
from domain.outcomes import Fault, MailReport
from domain.ports import Clock, MailServer
from domain.profile import ProfileState
from domain.secret import Secret
from infrastructure.status import SettingStatus
from infrastructure.token_service import TokenService

UPDATE_FAILED = "Token update failed. Please delete the token and obtain it again."
"""The manual's own sentence."""


class MailService:
    """Mail through the profiles' own servers, with their tokens."""

    def __init__(self, tokens: TokenService, server: MailServer, clock: Clock) -> None:
        self._tokens = tokens
        self._server = server
        self._clock = clock

    def test(self, name: str, recipient: str | None, by: str) -> MailReport:
        """Test the connection of a profile; with a recipient also deliver a message.

        Raises:
            NotFound: no such profile.
            Refused: there is no token to test with.
            Unreachable: the token has expired and can't be renewed now.
        """
        profile = self._tokens.status(name).profile
        if recipient is None:
            return self._with_token(profile, by, lambda token: self._server.test(profile, token))
        if profile.protocol is not Protocol.SMTP:
            raise InvalidValue("to", f"{name} receives mail; only an SMTP setting can send a test message")
        sender = profile.settings.sender_address or profile.mailbox or ""
        message = self._test_message(profile, sender, recipient)
        return self._with_token(
            profile, by, lambda token: self._server.submit(profile, token, sender, [recipient], message)
        )

    def send(
        self, name: str | None, sender: str | None, recipients: Sequence[str], message: bytes, by: str
    ) -> tuple[str, MailReport]:
        """Hand a message over through the profile called `name`, or the one that sends for `sender`.

        Raises:
            NotFound: no such profile, or none that sends for `sender`.
            Refused: several different ones do, or there is no token.
            InvalidValue: no recipient, or not an SMTP setting.
            Unreachable: the token has expired and can't be renewed now.
        """
        if not recipients:
            raise InvalidValue("recipient", "there is none: name one, or use -t with To, Cc or Bcc in the message")
        profile = (self._tokens.status(name) if name else self._sending_for(sender)).profile
        if profile.protocol is not Protocol.SMTP:
            raise InvalidValue("profile", f"{profile.name} receives mail; name an SMTP setting")
        envelope_from = sender or profile.settings.sender_address or profile.mailbox or ""
        report = self._with_token(
            profile, by, lambda token: self._server.submit(profile, token, envelope_from, recipients, message)
        )
        return profile.name, report

    def sender_of(self, name: str) -> str:
        """The address mail through this profile comes from.

        Raises:
            NotFound: no such profile.
        """
        profile = self._tokens.status(name).profile
        return profile.settings.sender_address or profile.mailbox or ""

    def _sending_for(self, sender: str | None) -> SettingStatus:
        smtp = [s for s in self._tokens.statuses() if s.profile.protocol is Protocol.SMTP and s.profile.settings.server]
        wanted = sender and sender.casefold()
        fitting = [s for s in smtp if wanted is None or wanted in _sends_for(s.profile)]
        if not fitting:
            raise NotFound(f"no SMTP setting with a server sends for {sender or 'anybody'}: name one with --profile")
        if len({status.profile.token_id for status in fitting}) > 1:
            names = ", ".join(status.profile.name for status in fitting)
            raise Refused(f"several settings send for {sender or 'somebody'}: name one with --profile ({names})")
        return fitting[0]

    def _with_token(self, profile: ProfileState, by: str, converse: Callable[[Secret], MailReport]) -> MailReport:
        report = converse(self._tokens.access_token(profile.name, None, by).credential.access_token)
        if report.fault is not Fault.TOKEN:
            return report
        try:
            self._tokens.renew(profile.name, by)
        except (Failed, Refused):
            return replace(report, verdict=UPDATE_FAILED)
        except Unreachable as unreachable:
            return replace(report, verdict=f"{report.verdict} Renewing it did not work either: {unreachable}")
        return converse(self._tokens.access_token(profile.name, None, by).credential.access_token)

    def _test_message(self, profile: ProfileState, sender: str, recipient: str) -> bytes:
        message = EmailMessage()
        message["From"] = sender
        message["To"] = recipient
        message["Subject"] = f"Mailtoken connection test of {profile.name}"
        message["Date"] = format_datetime(self._clock.now())
        message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2] or None)
        message.set_content(
            f"{profile.name} can send mail through {profile.settings.server} with its OAuth 2.0 token.\n"
        )
        return message.as_bytes()


def _sends_for(profile: ProfileState) -> set[str]:
    addresses = (profile.settings.sender_address, profile.mailbox)
    return {address.casefold() for address in addresses if address}
