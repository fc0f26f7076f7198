"""The meaning of a mail server's refusal: tables from replies to verdicts. A new reply seen in the field is a new row.

The codes decide; words of the text distinguish refusals that share a code. Sources: Microsoft's Exchange Online SMTP
errors, Gmail's XOAUTH2 page, RFC 3463 (enhanced status codes), RFC 2449 section 8 and RFC 3206 (POP3), RFC 5530
(IMAP).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from adapters.mail.sasl_client import ErrorChallenge
from domain.mail_report import Fault, Verdict

_TOKEN_REFUSED = Verdict("token_refused", Fault.TOKEN)
_TRY_LATER = Verdict("try_later", Fault.SERVER)
_OTHER = Verdict("refused_by_server", Fault.SERVER)
_SIGN_IN_NOT_COUNTED = Verdict("sign_in_not_counted", Fault.CONFIGURATION)
_MAILBOX_NOT_PERMITTED = Verdict("mailbox_not_permitted", Fault.PERMISSION)
_MAILBOX_IN_USE = Verdict("mailbox_in_use", Fault.MAILBOX)
_TAKEN_FOR_PASSWORD = Verdict("taken_for_password", Fault.CONFIGURATION)
_MAILBOX_FULL = Verdict("mailbox_full", Fault.MAILBOX)
_SEND_AS_NOT_GRANTED = Verdict("send_as_not_granted", Fault.SENDER)
_SENDING_BARRED = Verdict("sending_barred", Fault.MAILBOX)
_SENDING_LIMIT_REACHED = Verdict("sending_limit_reached", Fault.MAILBOX)
_MECHANISM_NOT_AVAILABLE = Verdict("mechanism_not_available", Fault.MAILBOX)
# The numbers are those of whoever has the message.
_TOO_LARGE = Verdict("message_too_large", Fault.MESSAGE, {"octets": "an unknown number of", "limit": "not announced"})


class SMTPRow(NamedTuple):
    """A refusal: reply code (RFC 5321 section 4.2), enhanced status code, verdict, and words of the text, if needed.

    The code 0 stands for every code of the enhanced status code's class. The case of the words doesn't matter.
    """

    code: int
    enhanced: str
    verdict: Verdict
    mark: str = ""


# The first row that fits counts, so a row with words precedes the row without.
_SMTP = (
    SMTPRow(421, "4.3.0", _TRY_LATER),
    SMTPRow(421, "4.7.0", _TRY_LATER),
    SMTPRow(432, "4.3.2", Verdict("connection_limit_reached", Fault.SERVER)),
    SMTPRow(454, "4.7.0", _TRY_LATER),
    SMTPRow(501, "5.5.127", Verdict("token_about_to_expire", Fault.TOKEN)),
    SMTPRow(504, "5.7.4", _MECHANISM_NOT_AVAILABLE),
    SMTPRow(530, "5.7.1", _SIGN_IN_NOT_COUNTED),
    SMTPRow(530, "5.7.57", _SIGN_IN_NOT_COUNTED),
    SMTPRow(534, "5.7.9", _TAKEN_FOR_PASSWORD),
    SMTPRow(535, "5.7.3", _TOKEN_REFUSED),
    SMTPRow(535, "5.7.139", Verdict("smtp_auth_disabled_for_tenant", Fault.MAILBOX), "disabled for the Tenant"),
    SMTPRow(535, "5.7.139", Verdict("smtp_auth_disabled_for_mailbox", Fault.MAILBOX), "disabled for the Mailbox"),
    SMTPRow(535, "5.7.139", Verdict("smtp_auth_disabled", Fault.MAILBOX), "SmtpClientAuthentication is disabled"),
    SMTPRow(535, "5.7.139", Verdict("security_defaults_on", Fault.MAILBOX), "security defaults"),
    SMTPRow(535, "5.7.139", Verdict("conditional_access_refused", Fault.MAILBOX), "criteria"),
    SMTPRow(535, "5.7.139", Verdict("basic_authentication_disabled", Fault.MAILBOX), "basic authentication"),
    SMTPRow(535, "5.7.139", Verdict("account_locked", Fault.MAILBOX), "locked"),
    SMTPRow(535, "5.7.139", Verdict("credentials_incorrect", Fault.PERMISSION), "credentials were incorrect"),
    SMTPRow(535, "5.7.139", Verdict("smtp_auth_refused", Fault.MAILBOX)),
    SMTPRow(550, "5.7.1", Verdict("not_allowed_by_policy", Fault.PERMISSION)),
    SMTPRow(550, "5.7.30", _TAKEN_FOR_PASSWORD),
    SMTPRow(0, "5.7.60", _SEND_AS_NOT_GRANTED),
    SMTPRow(0, "5.2.252", _SEND_AS_NOT_GRANTED),
    SMTPRow(0, "5.2.0", _SEND_AS_NOT_GRANTED, "SendAsDenied"),
    SMTPRow(0, "5.2.0", _SENDING_LIMIT_REACHED, "SubmissionQuotaExceeded"),
    SMTPRow(0, "5.1.8", _SENDING_BARRED),
    SMTPRow(0, "5.7.501", _SENDING_BARRED),
    SMTPRow(0, "5.7.502", _SENDING_BARRED),
    SMTPRow(0, "5.7.503", _SENDING_BARRED),
    SMTPRow(0, "5.7.705", _SENDING_BARRED),
    SMTPRow(0, "5.7.708", _SENDING_BARRED),
    SMTPRow(0, "5.7.750", _SENDING_BARRED),
    SMTPRow(0, "5.1.90", _SENDING_LIMIT_REACHED),
    SMTPRow(0, "5.4.5", _SENDING_LIMIT_REACHED),
    SMTPRow(0, "5.7.232", _SENDING_LIMIT_REACHED),
    SMTPRow(0, "5.7.233", _SENDING_LIMIT_REACHED),
    SMTPRow(0, "4.2.2", _SENDING_LIMIT_REACHED, "submission quota"),
    SMTPRow(0, "5.2.2", _SENDING_LIMIT_REACHED, "submission quota"),
    SMTPRow(0, "4.2.2", _MAILBOX_FULL),
    SMTPRow(0, "5.2.2", _MAILBOX_FULL),
    SMTPRow(0, "5.2.3", _TOO_LARGE),
    SMTPRow(0, "5.3.4", _TOO_LARGE),
)
# By reply code alone, for servers with no enhanced status codes or with unlisted ones (RFC 4954 section 6).
_SMTP_CODE: Mapping[int, Verdict] = MappingProxyType(
    {530: Verdict("tls_or_sign_in_first", Fault.CONFIGURATION), 535: _TOKEN_REFUSED}
)
# 552 alone is a message that is too large (RFC 1870 section 6.1), except at a recipient, whose mailbox is full.
_TOO_LARGE_STEPS = frozenset({"mail", "data"})
# By the step that a 5xx reply refused.
_SMTP_STEP: Mapping[str, Verdict] = MappingProxyType(
    {
        "mail": Verdict("sender_refused", Fault.SENDER),
        "rcpt": Verdict("recipient_refused", Fault.MAILBOX),
        "data": Verdict("message_refused", Fault.SERVER),
    }
)

# By response code (the word in brackets), in upper case.
_RESPONSE_CODE: Mapping[str, Verdict] = MappingProxyType(
    {
        "AUTH": _TOKEN_REFUSED,
        "AUTHENTICATIONFAILED": _TOKEN_REFUSED,
        "EXPIRED": _TOKEN_REFUSED,
        "AUTHORIZATIONFAILED": _MAILBOX_NOT_PERMITTED,
        "NOPERM": _MAILBOX_NOT_PERMITTED,
        "PRIVACYREQUIRED": Verdict("tls_wanted_by_server", Fault.CONFIGURATION),
        "CONTACTADMIN": Verdict("administrator_wanted", Fault.MAILBOX),
        "NONEXISTENT": Verdict("no_such_mailbox", Fault.MAILBOX),
        "IN-USE": _MAILBOX_IN_USE,
        "INUSE": _MAILBOX_IN_USE,
        "LOGIN-DELAY": Verdict("asked_too_often", Fault.CONFIGURATION),
        "LIMIT": _TRY_LATER,
        "UNAVAILABLE": _TRY_LATER,
        "SYS/TEMP": _TRY_LATER,
        "SYS/PERM": _OTHER,
        "SERVERBUG": _OTHER,
    }
)
# By the step, for a refusal without a known response code.
_RECEIVING_STEP: Mapping[str, Verdict] = MappingProxyType(
    {"auth": _TOKEN_REFUSED, "stat": _MAILBOX_NOT_PERMITTED, "examine": _MAILBOX_NOT_PERMITTED}
)


def smtp_refusal(
    step: str, code: int, enhanced: str, text: str, error: ErrorChallenge | None = None, mechanism: str = ""
) -> Verdict:
    """The meaning of an SMTP refusal.

    `error` is the error challenge that came before it, if any, and `mechanism` that of the sign-in it refuses.
    """
    verdict = _listed(code, enhanced, text)
    if verdict is _MECHANISM_NOT_AVAILABLE:
        return replace(verdict, fields={"mechanism": mechanism or "this mechanism"})
    if verdict is not None:
        return verdict
    if code // 100 == 4:
        return _TRY_LATER
    if error is not None:
        return challenged(error)
    if code == 552 and not enhanced and step in _TOO_LARGE_STEPS:
        return _TOO_LARGE
    return _SMTP_CODE.get(code) or _SMTP_STEP.get(step, _OTHER)


def _listed(code: int, enhanced: str, text: str) -> Verdict | None:
    words = text.lower()
    for row in _SMTP:
        fits = row.code == code if row.code else row.enhanced[0] == str(code // 100)
        if fits and row.enhanced == enhanced and row.mark.lower() in words:
            return row.verdict
    return None


def receiving_refusal(step: str, response_code: str, error: ErrorChallenge | None = None) -> Verdict:
    """The meaning of a POP3 `-ERR` or an IMAP `NO`. `response_code` is the word in brackets, "" if there is none."""
    known = _RESPONSE_CODE.get(response_code.upper())
    if known is not None:
        return known
    if error is not None:
        return challenged(error)
    return _RECEIVING_STEP.get(step, _OTHER)


def challenged(error: ErrorChallenge) -> Verdict:
    """The meaning of an error challenge (RFC 7628 section 3.2.2)."""
    if error.status == "insufficient_scope":
        return Verdict("scope_missing", Fault.PERMISSION, {"scope": error.scope or "for mail"})
    return _TOKEN_REFUSED
