"""What a mail server's refusal means: whose fault it is, and what to do. Tables, which an operator's case can extend.

Codes decide, never the text beside them. Sources: Microsoft's Exchange Online SMTP errors, Gmail's XOAUTH2 page,
RFC 3463 (enhanced status codes), RFC 2449 section 8 and RFC 3206 (POP3), RFC 5530 (IMAP).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from adapters.mail.sasl import ErrorChallenge
from domain.outcomes import Fault


@dataclass(frozen=True)
class Meaning:
    """Whose fault a refusal is, and one sentence that says so and what to do."""

    fault: Fault
    sentence: str


_TOKEN = Meaning(
    Fault.TOKEN,
    "The server refused the token: renew it; if it is refused again, check that the account may use this mailbox.",
)
_TRY_LATER = Meaning(Fault.SERVER, "The server can't do this now, which says nothing about the token: try again later.")
_OTHER = Meaning(Fault.SERVER, "The server refused this for a reason of its own: ask who runs it.")
_NOT_SIGNED_IN = Meaning(
    Fault.CONFIGURATION,
    "The server does not count the sign-in, which it accepted: token and mailbox don't match; correct Account Name or"
    " the mailbox, or give the account access to it.",
)
_NO_USE_OF_MAILBOX = Meaning(
    Fault.PERMISSION,
    "The server accepted the token but not for this mailbox: give the account access to it, or correct the mailbox.",
)

# By reply code and enhanced status code (RFC 5321 section 4.2, RFC 3463).
_SMTP: Mapping[tuple[int, str], Meaning] = MappingProxyType(
    {
        (535, "5.7.3"): _TOKEN,
        (535, "5.7.139"): Meaning(
            Fault.MAILBOX,
            "SMTP AUTH is disabled for this mailbox or tenant: an administrator of the mail service has to enable it.",
        ),
        (550, "5.7.30"): Meaning(
            Fault.CONFIGURATION,
            "The server took this for a sign-in with a password, which it no longer accepts: sign in with OAuth 2.0.",
        ),
        (530, "5.7.1"): _NOT_SIGNED_IN,
        (530, "5.7.57"): _NOT_SIGNED_IN,
        (550, "5.7.60"): Meaning(
            Fault.SENDER,
            "The sender is not this mailbox: grant the account Send As for that address, or correct Sender Address.",
        ),
        (550, "5.7.1"): Meaning(
            Fault.PERMISSION, "The server's policy does not allow this: ask an administrator of the mail service."
        ),
        (432, "4.3.2"): Meaning(
            Fault.SERVER, "The mailbox has its limit of connections open already: queue the message and try again."
        ),
        (554, "5.2.2"): Meaning(Fault.MAILBOX, "The mailbox is full: make room in it."),
        (501, "5.5.127"): Meaning(Fault.TOKEN, "The token is about to expire: renew it and try again."),
        (454, "4.7.0"): _TRY_LATER,
        (421, "4.7.0"): _TRY_LATER,
        (421, "4.3.0"): _TRY_LATER,
    }
)
# By reply code alone: servers without enhanced status codes, or with others (RFC 4954 section 6).
_SMTP_CODE: Mapping[int, Meaning] = MappingProxyType(
    {
        530: Meaning(Fault.CONFIGURATION, "The server wants TLS or a sign-in before this: check TLS and Port."),
        535: _TOKEN,
    }
)
# By the step that got a 5xx.
_SMTP_STEP: Mapping[str, Meaning] = MappingProxyType(
    {
        "mail": Meaning(
            Fault.SENDER, "The server refused the sender: correct Sender Address, or grant Send As for it."
        ),
        "rcpt": Meaning(Fault.MAILBOX, "The server refused the recipient: check the address."),
        "data": Meaning(Fault.SERVER, "The server refused the message: its reply says what it does not like."),
    }
)

_BUSY = Meaning(Fault.MAILBOX, "The mailbox is in use by another session: try again when that has ended.")
# By response code, in upper case.
_RESPONSE_CODE: Mapping[str, Meaning] = MappingProxyType(
    {
        "AUTH": _TOKEN,
        "AUTHENTICATIONFAILED": _TOKEN,
        "EXPIRED": _TOKEN,
        "AUTHORIZATIONFAILED": _NO_USE_OF_MAILBOX,
        "NOPERM": _NO_USE_OF_MAILBOX,
        "PRIVACYREQUIRED": Meaning(Fault.CONFIGURATION, "The server wants TLS: set TLS to starttls or implicit."),
        "CONTACTADMIN": Meaning(Fault.MAILBOX, "The server wants an administrator of the mail service to act."),
        "NONEXISTENT": Meaning(Fault.MAILBOX, "The account has no mailbox here: check Server and the mailbox."),
        "IN-USE": _BUSY,
        "INUSE": _BUSY,
        "LOGIN-DELAY": Meaning(Fault.CONFIGURATION, "The server was asked too often: make Check Interval longer."),
        "LIMIT": _TRY_LATER,
        "UNAVAILABLE": _TRY_LATER,
        "SYS/TEMP": _TRY_LATER,
        "SYS/PERM": _OTHER,
        "SERVERBUG": _OTHER,
    }
)
# By the step that was refused without a code that is known.
_RECEIVING_STEP: Mapping[str, Meaning] = MappingProxyType(
    {"auth": _TOKEN, "stat": _NO_USE_OF_MAILBOX, "examine": _NO_USE_OF_MAILBOX}
)


def smtp_refusal(step: str, code: int, enhanced: str, error: ErrorChallenge | None = None) -> Meaning:
    """What an SMTP reply means; `error` is the challenge that came before it, if one did."""
    if (code, enhanced) in _SMTP:
        return _SMTP[code, enhanced]
    if code // 100 == 4:
        return _TRY_LATER
    if error is not None:
        return challenged(error)
    return _SMTP_CODE.get(code) or _SMTP_STEP.get(step, _OTHER)


def receiving_refusal(step: str, response_code: str, error: ErrorChallenge | None = None) -> Meaning:
    """What a POP3 `-ERR` or an IMAP `NO` means. `response_code` is what stood in brackets, "" without."""
    known = _RESPONSE_CODE.get(response_code.upper())
    if known is not None:
        return known
    if error is not None:
        return challenged(error)
    return _RECEIVING_STEP.get(step, _OTHER)


def challenged(error: ErrorChallenge) -> Meaning:
    """What an error challenge means (RFC 7628 section 3.2.2)."""
    if error.status == "insufficient_scope":
        return Meaning(
            Fault.PERMISSION,
            f"The token lacks the scope {error.scope or 'for mail'}: add it to the provider and get the token again.",
        )
    return _TOKEN
