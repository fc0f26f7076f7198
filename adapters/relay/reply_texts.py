"""The text of a reply to a mail client about an error, by the error's code.

A person reads the text in a machine's log or on its panel, so the text is one line and names no page and no command.
"""

from __future__ import annotations

from collections.abc import Mapping

from adapters.texts.errors import fact_text
from domain.errors import MailtokenError, Unreachable

_TEXTS: Mapping[str, str] = {
    "service_not_running": "the token service is not running",
    "service_timeout": "the token service does not answer in time",
    "service_reply_unreadable": "the reply of the token service can't be read",
    "relay_may_not_use_socket": "the relay may not use the token service",
    "stranger_listens": "something else answers in place of the token service",
    "too_many_wrong_passwords_from": "too many wrong passwords came from {address}",
    "mailbox_limit_reached": "the mailbox is at the limit that its mail server sets",
}
"""The texts of the relay's own errors; the service's errors have the texts of `adapters.texts.errors`."""


def reply_text(error: MailtokenError) -> str:
    """What has happened, and what the person at the mail client can do about it."""
    step = "try again later" if isinstance(error, Unreachable) else "ask the administrator of the relay"
    return f"{_fact(error)}: {step}"


def _fact(error: MailtokenError) -> str:
    text = _TEXTS.get(error.code)
    try:
        return text.format_map(error.fields) if text else fact_text(error)
    except KeyError:
        # The fields of a service of another version may differ.
        return error.code
