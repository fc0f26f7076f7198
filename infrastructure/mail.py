"""Sending and testing through a profile. If the mail server rejects the token, it is renewed and tried once more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from time import monotonic

from domain.catalogue import Protocol
from domain.errors import Failed, InvalidValue, NotFound, Refused, Unreachable
from domain.mail_report import Fault, MailReport, Step, Verdict
from domain.outcomes import Credential
from domain.ports import Clock, MailServer
from domain.profile import ProfileState
from domain.profile_fields import EmailAddress
from domain.secret import Secret
from infrastructure.mail_counters import MailCounters
from infrastructure.tokens.token_service import TokenService


class MailService:
    """Sends mail through the profiles' mail servers, with their tokens.

    `default_profile` sends the messages whose sender belongs to no profile.
    """

    def __init__(
        self,
        tokens: TokenService,
        server: MailServer,
        clock: Clock,
        default_profile: str | None = None,
        counters: MailCounters | None = None,
    ) -> None:
        self._tokens = tokens
        self._server = server
        self._clock = clock
        self._default_profile = default_profile
        self._counters = counters or MailCounters(clock)

    def test(self, name: str, recipient: str | None, by: str) -> MailReport:
        """Test the connection of a profile; with a recipient, also send a test message.

        Raises:
            NotFound: no such profile.
            InvalidValue: the recipient is no e-mail address, or the setting is not an SMTP setting.
            Refused: the setting has no token.
            Unreachable: the token has expired and can't be renewed now.
        """
        profile = self._tokens.believed_status(name).profile
        if recipient is None:
            return self._with_token(profile, by, lambda token: self._server.test(profile, token))
        if profile.protocol is not Protocol.SMTP:
            raise InvalidValue("to", "setting_receives_mail", profile=name)
        sender, recipient = _sender_of(profile), str(EmailAddress().read("to", recipient))
        message = self._test_message(profile, sender, recipient)
        return self._submit(profile, sender, [recipient], message, by)

    def send(
        self, name: str | None, sender: str | None, recipients: Sequence[str], message: bytes, by: str
    ) -> tuple[str, MailReport]:
        """Submit a message through the profile that `sending` finds; returns the profile's name and the report.

        Raises:
            InvalidValue: there is no recipient, or the setting is not an SMTP setting.
            Unreachable: the token has expired and can't be renewed now.
            NotFound, Refused: as `sending`; Refused also if the setting has no token.
        """
        if not recipients:
            raise InvalidValue("recipient", "no_recipients")
        profile = self.sending(name, sender)
        envelope_from = sender or _sender_of(profile)
        return profile.name, self._submit(profile, envelope_from, recipients, message, by)

    def sending(self, name: str | None, sender: str | None) -> ProfileState:
        """The profile called `name`, or else that of `sender`, or else the default, or else the only SMTP profile.

        Raises:
            NotFound: no such profile, or no profile sends for `sender`.
            Refused: several different profiles send for `sender`.
            InvalidValue: the setting is not an SMTP setting.
        """
        profile = self._tokens.believed_status(name).profile if name else self._sending_for(sender)
        if profile.protocol is not Protocol.SMTP:
            raise InvalidValue("profile", "setting_receives_mail", profile=profile.name)
        return profile

    def sender_of(self, name: str) -> str:
        """The sender address of mail through this profile.

        Raises:
            NotFound: no such profile.
        """
        return _sender_of(self._tokens.believed_status(name).profile)

    def _submit(
        self, profile: ProfileState, sender: str, recipients: Sequence[str], message: bytes, by: str
    ) -> MailReport:
        report = self._with_token(
            profile,
            by,
            lambda token: self._server.submit(profile, token, sender=sender, recipients=recipients, message=message),
        )
        if report.ok or report.verdict.code == "message_accepted_in_part":
            self._counters.sent(profile.name, len(message))
        if report.reply and not report.ok:
            self._counters.refused(profile.name)
        return report

    def _sending_for(self, sender: str | None) -> ProfileState:
        statuses = self._tokens.statuses()
        smtp = [s.profile for s in statuses if s.profile.protocol is Protocol.SMTP and s.profile.settings.server]
        fitting = [profile for profile in smtp if sender and sender.casefold() in _sends_for(profile)]
        if not fitting and self._default_profile:
            return self._tokens.believed_status(self._default_profile).profile
        if not sender:
            fitting = smtp
        if not fitting:
            raise NotFound("no_setting_sends", sender=sender or "anybody")
        if len({profile.token_id for profile in fitting}) > 1:
            names = [profile.name for profile in fitting]
            raise Refused("several_settings_send", sender=sender or "somebody", settings=names)
        return self._tokens.believed_status(fitting[0].name).profile

    def _with_token(self, profile: ProfileState, by: str, converse: Callable[[Secret], MailReport]) -> MailReport:
        handed = self._tokens.access_token(profile.name, None, by)
        report = converse(handed.credential.access_token)
        if report.fault is not Fault.TOKEN:
            return report
        began = monotonic()
        try:
            renewed = self._newer(profile.name, handed.generation, by)
        except (Failed, Refused) as refused:
            step = _renewal(began, Verdict("renewal_failed", Fault.TOKEN, cause=refused))
            return _followed_by(report, step, Verdict("token_update_failed", Fault.TOKEN))
        except Unreachable as unreachable:
            step = _renewal(began, Verdict("renewal_failed", Fault.TOKEN, cause=unreachable))
            return _followed_by(report, step, Verdict("renewal_unreachable", Fault.TOKEN, cause=unreachable))
        until = f"{renewed.expires_at:%Y-%m-%d %H:%M} UTC"
        renewal = _renewal(began, Verdict("token_renewed", Fault.NONE, {"expires_at": until}))
        again = converse(renewed.access_token)
        if again.fault is Fault.TOKEN:
            again = replace(again, verdict=_refused_after_renewal(profile))
        return replace(again, steps=(*report.steps, renewal, *again.steps))

    def _newer(self, name: str, rejected: int, by: str) -> Credential:
        """The credential after the generation `rejected`; it is renewed here unless another caller has renewed it."""
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


def _renewal(began: float, verdict: Verdict) -> Step:
    return Step("renew", verdict.fault is Fault.NONE, monotonic() - began, verdict)


def _refused_after_renewal(profile: ProfileState) -> Verdict:
    account = profile.settings.account or ""
    if profile.protocol is Protocol.SMTP and profile.mailbox and profile.mailbox.casefold() != account.casefold():
        facts = {"account": account, "mailbox": profile.mailbox}
        return Verdict("shared_mailbox_refused", Fault.PERMISSION, facts)
    return Verdict("renewed_token_refused", Fault.PERMISSION)


def _followed_by(report: MailReport, step: Step, verdict: Verdict) -> MailReport:
    return replace(report, steps=(*report.steps, step), verdict=verdict)


def _sender_of(profile: ProfileState) -> str:
    return profile.settings.sender_address or profile.mailbox or ""


def _sends_for(profile: ProfileState) -> set[str]:
    addresses = (profile.settings.sender_address, profile.mailbox)
    return {address.casefold() for address in addresses if address}
