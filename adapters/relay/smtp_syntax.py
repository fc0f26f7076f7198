"""Commands and replies of SMTP as text: what a client may say, and what goes on to a mail server. Without I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping

from adapters.relay.smtp_upstream import Extensions

CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
# RFC 5321 section 4.1.2, with what odd machines do: a blank after the colon, an address without angle brackets.
_QUOTED = rb'"(?:[^"\\]|\\.)*"'
_PATH = rb' ?(?:<(?P<path>(?:[^\s<>"\\]|' + _QUOTED + rb')*)>|(?P<bare>[^\s<>"\\]+))(?P<parameters>(?: +[!-~]+)*) *'
MAIL_FROM = re.compile(rb"FROM:" + _PATH, re.IGNORECASE)
RCPT_TO = re.compile(rb"TO:" + _PATH, re.IGNORECASE)
_UNPRINTABLE = re.compile("[^ -~]+")


def answer(code: int, enhanced: str, text: str) -> bytes:
    """A reply of our own: one line of printable ASCII, short enough for everybody."""
    said = _UNPRINTABLE.sub(" ", text)[:400]
    return f"{code} {enhanced} {said}\r\n".encode() if enhanced else f"{code} {said}\r\n".encode()


class NotObeyed(Exception):
    """A command is not obeyed; the reply to it."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.is_mistake = code >= 500
        self.answer = answer(code, enhanced, text)


def parsed(form: re.Pattern[bytes], argument: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """The address of MAIL or RCPT, and its parameters by keyword in upper case."""
    found = form.fullmatch(argument)
    if found is None:
        raise NotObeyed(501, "5.5.4", "this needs an address like <scan@contoso.com>")
    path = found["path"] if found["bare"] is None else found["bare"]
    parameters = (parameter.partition(b"=") for parameter in found["parameters"].split())
    return path, {keyword.upper(): value for keyword, _, value in parameters}


def check_path(path: bytes, may_be_utf8: bool) -> None:
    """An address is in ASCII, or in UTF-8 where SMTPUTF8 was said (RFC 6531)."""
    try:
        path.decode("utf-8" if may_be_utf8 else "ascii")
    except UnicodeDecodeError:
        raise NotObeyed(553, "5.6.7", "an address with other characters than ASCII needs SMTPUTF8") from None


def size_of(parameters: Mapping[bytes, bytes]) -> int:
    """The message size that was announced (RFC 1870), 0 if none was."""
    size = parameters.get(b"SIZE", b"0")
    if not re.fullmatch(rb"[0-9]{1,20}", size):
        raise NotObeyed(501, "5.5.4", "SIZE is not a number")
    return int(size)


def too_big(limit: int) -> NotObeyed:
    """The message is over a limit, in octets (RFC 1870)."""
    return NotObeyed(552, "5.3.4", f"the message is bigger than {limit} octets")


def passed_on(parameters: Mapping[bytes, bytes], extensions: Extensions) -> list[bytes]:
    """The parameters of MAIL as the mail server understands them."""
    passed = []
    for keyword, value in parameters.items():
        match keyword, value.upper():
            case b"SIZE", _:
                if extensions.size and int(value) > extensions.size:
                    raise too_big(extensions.size)
                needed, text = "SIZE", b"SIZE=" + value
            case b"BODY", b"7BIT" | b"8BITMIME":
                needed, text = "8BITMIME", b"BODY=" + value.upper()
                if value.upper() == b"8BITMIME" and needed not in extensions:
                    raise NotObeyed(554, "5.6.3", "the mail server takes no 8-bit messages: encode the text as base64")
            case b"SMTPUTF8", b"":
                needed, text = "SMTPUTF8", b"SMTPUTF8"
                if needed not in extensions:
                    raise NotObeyed(553, "5.6.7", "the mail server takes no addresses in UTF-8")
            case b"AUTH", _:
                # Who submitted it (RFC 4954 section 5) is our relay user, whom the mail server does not know.
                continue
            case _:
                raise NotObeyed(555, "5.5.4", "MAIL has a parameter that was not offered")
        if needed in extensions:
            passed.append(text)
    return passed
