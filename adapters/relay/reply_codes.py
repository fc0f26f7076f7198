"""The relay's reply codes for a sign-in to the mail server that failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adapters.mail.report import ConversationFailed
from adapters.mail.smtp_client import SMTPRefused
from domain.mail_report import Fault


@dataclass(frozen=True)
class ReplyCodes:
    """The reply codes for a failed sign-in to the mail server: `denied` if it rejects the token, else `later`."""

    denied: tuple[int, str]
    later: int

    def of(self, failed: ConversationFailed) -> tuple[int, str]:
        """The reply code and the enhanced code, which is the mail server's own if that is of the same class."""
        if isinstance(failed, SMTPRefused) and failed.code == 432:
            return 432, "4.3.2"
        is_denial = failed.fault in (Fault.TOKEN, Fault.MAILBOX, Fault.PERMISSION)
        code, enhanced = self.denied if is_denial else (self.later, _LATER.get(failed.fault, "4.3.0"))
        if isinstance(failed, SMTPRefused) and failed.enhanced[:1] == enhanced[:1]:
            enhanced = failed.enhanced
        return code, enhanced


_LATER: Mapping[Fault, str] = {Fault.CERTIFICATE: "4.7.5", Fault.CONFIGURATION: "4.3.5", Fault.NETWORK: "4.4.1"}
AT_AUTH = ReplyCodes(denied=(535, "5.7.8"), later=454)
AT_MAIL = ReplyCodes(denied=(451, "4.7.0"), later=451)
