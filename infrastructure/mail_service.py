"""Sending and testing through a profile: the token first, then the mail server, and one renewal if that rejects it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from time import monotonic

from domain.catalogue import Protocol
from domain.errors import Failed, InvalidValue, NotFound, Refused, Unreachable
from domain.outcomes import Credential, Fault, MailReport, Step
from domain.ports import Clock, MailServer
from domain.profile import ProfileState
from domain.secret import Secret
from infrastructure.token_service import TokenService

UPDATE_FAILED = "Token update failed. Please delete the token and obtain it again."
"""The manual's own sentence."""
REFUSED_AGAIN = (
    "The server refuses the token, and the renewed one as well: check that the account may use this mailbox, that its"
    " protocol is switched on there, and that the provider's scopes are those of the mail service."
)


class MailService:
    """Mail through the profiles' own servers, with their tokens.

    `default_profile` sends what no profile sends for.
    """

    def __init__(
        self, tokens: TokenService, server: MailServer, clock: Clock, default_profile: str | None = None
    ) -> None:
        self._tokens = tokens
        self._server = server
        self._clock = clock
        self._default_profile = default_profile

    def test(self, name: str, recipient: str | None, by: str) -> MailReport:
        """Test the connection of a profile; with a recipient also deliver a message.

        Raises:
            NotFound: no such profile.
            InvalidValue: a recipient, and not an SMTP setting.
            Refused: there is no token to test with.
            Unreachable: the token has expired and can't be renewed now.
        """
        profile = self._tokens.status(name).profile
        if recipient is None:
            return self._with_token(profile, by, lambda token: self._server.test(profile, token))
        if profile.protocol is not Protocol.SMTP:
            raise InvalidValue("to", f"{name} receives mail; only an SMTP setting can send a test message")
        sender = _sender_of(profile)
        message = self._test_message(profile, sender, recipient)
        return self._with_token(
            profile, by, lambda token: self._server.submit(profile, token, sender, [recipient], message)
        )

    def send(
        self, name: str | None, sender: str | None, recipients: Sequence[str], message: bytes, by: str
    ) -> tuple[str, MailReport]:
        """Hand a message over through the profile that `sending` finds; its name comes with the report.

        Raises:
            InvalidValue: no recipient, or not an SMTP setting.
            Unreachable: the token has expired and can't be renewed now.
            NotFound, Refused: as `sending`; Refused also if there is no token.
        """
        if not recipients:
            raise InvalidValue("recipient", "there is none: name one, or use -t with To, Cc or Bcc in the message")
        profile = self.sending(name, sender)
        envelope_from = sender or _sender_of(profile)
        report = self._with_token(
            profile, by, lambda token: self._server.submit(profile, token, envelope_from, recipients, message)
        )
        return profile.name, report

    def sending(self, name: str | None, sender: str | None) -> ProfileState:
        """The profile called `name`, else the one that sends for `sender`, else the default, else the only one.

        Raises:
            NotFound: no such profile, or none that sends for `sender`.
            Refused: several different ones do.
            InvalidValue: not an SMTP setting.
        """
        profile = self._tokens.status(name).profile if name else self._sending_for(sender)
        if profile.protocol is not Protocol.SMTP:
            raise InvalidValue("profile", f"{profile.name} receives mail; name an SMTP setting")
        return profile

    def sender_of(self, name: str) -> str:
        """The address mail through this profile comes from.

        Raises:
            NotFound: no such profile.
        """
        return _sender_of(self._tokens.status(name).profile)

    def _sending_for(self, sender: str | None) -> ProfileState:
        statuses = self._tokens.statuses()
        smtp = [s.profile for s in statuses if s.profile.protocol is Protocol.SMTP and s.profile.settings.server]
        fitting = [profile for profile in smtp if sender and sender.casefold() in _sends_for(profile)]
        if not fitting and self._default_profile:
            return self._tokens.status(self._default_profile).profile
        if not sender:
            fitting = smtp
        if not fitting:
            raise NotFound(f"no SMTP setting with a server sends for {sender or 'anybody'}: name one with --profile")
        if len({profile.token_id for profile in fitting}) > 1:
            names = ", ".join(profile.name for profile in fitting)
            raise Refused(f"several settings send for {sender or 'somebody'}: name one with --profile ({names})")
        return fitting[0]

    def _with_token(self, profile: ProfileState, by: str, converse: Callable[[Secret], MailReport]) -> MailReport:
        handed = self._tokens.access_token(profile.name, None, by)
        report = converse(handed.credential.access_token)
        if report.fault is not Fault.TOKEN:
            return report
        began = monotonic()
        try:
            renewed = self._newer(profile.name, handed.generation, by)
        except (Failed, Refused) as refused:
            return _followed_by(report, _renewal(began, str(refused)), UPDATE_FAILED)
        except Unreachable as unreachable:
            verdict = f"{report.verdict} Renewing it did not work either: {unreachable}"
            return _followed_by(report, _renewal(began, str(unreachable)), verdict)
        renewal = _renewal(began, f"a new access token, valid until {renewed.expires_at:%Y-%m-%d %H:%M} UTC", ok=True)
        again = converse(renewed.access_token)
        if again.fault is Fault.TOKEN:
            again = replace(again, fault=Fault.PERMISSION, verdict=REFUSED_AGAIN)
        return replace(again, steps=(*report.steps, renewal, *again.steps))

    def _newer(self, name: str, rejected: int, by: str) -> Credential:
        """What came after the generation that the server rejected; renewed only if nobody has done so meanwhile."""
        handed = self._tokens.access_token(name, None, by)
        if handed.generation == rejected:
            self._tokens.renew(name, by)
            handed = self._tokens.access_token(name, None, by)
        return handed.credential

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


def _renewal(began: float, detail: str, *, ok: bool = False) -> Step:
    return Step("renew", ok, monotonic() - began, detail)


def _followed_by(report: MailReport, step: Step, verdict: str) -> MailReport:
    return replace(report, steps=(*report.steps, step), verdict=verdict)


def _sender_of(profile: ProfileState) -> str:
    return profile.settings.sender_address or profile.mailbox or ""


def _sends_for(profile: ProfileState) -> set[str]:
    addresses = (profile.settings.sender_address, profile.mailbox)
    return {address.casefold() for address in addresses if address}
