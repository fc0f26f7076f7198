"""Parses the SMTP commands of clients, and makes the relay's own replies and the commands for mail servers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from adapters.mail.smtp_client import Extensions
from adapters.relay.refusals import Cause

# A tab separates words, as a blank does.
CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# RFC 5321 section 4.1.2, and what old machines send: blanks and tabs around the colon and the path, no angle brackets.
_QUOTED = rb'"(?:[ !#-\[\]-~\x80-\xff]|\\[ -~])*"'
_PATH = (
    rb'[ \t]*:[ \t]*(?:<[ \t]*(?P<path>(?:[^\s<>"\\]|' + _QUOTED + rb')*)[ \t]*>|(?P<bare>[^\s<>"\\]+))'
    rb"(?P<parameters>(?:[ \t]+[!-~]+)*)[ \t]*"
)
MAIL_FROM = re.compile(rb"FROM" + _PATH, re.IGNORECASE)
RCPT_TO = re.compile(rb"TO" + _PATH, re.IGNORECASE)
_SOURCE_ROUTE = re.compile(rb"@(?:\[[^\]]*\]|[^\s,:\[\]])+(?:,@(?:\[[^\]]*\]|[^\s,:\[\]])+)*:")
_SIZE_DIGITS = 20
"""RFC 1870 section 4: `size-value = 1*20DIGIT`."""
_UNPRINTABLE = re.compile("[^ -~]+")


def answer(code: int, enhanced: str, text: str) -> bytes:
    """A reply of the relay itself: one line of printable ASCII, with 400 characters of text at most."""
    printable = _UNPRINTABLE.sub(" ", text)[:400]
    return f"{code} {enhanced} {printable}\r\n".encode() if enhanced else f"{code} {printable}\r\n".encode()


class SMTPRefusal(Exception):
    """A command is refused; `answer` is the reply to it. `is_logged` is whether the log has the reason already."""

    def __init__(
        self, code: int, enhanced: str, text: str, cause: Cause = Cause.COMMAND, *, is_logged: bool = False
    ) -> None:
        super().__init__(text)
        self.cause = cause
        self.is_logged = is_logged
        self.is_mistake = code >= 500
        self.answer = answer(code, enhanced, text)


def split_command(line: bytes) -> tuple[bytes, bytes]:
    """The verb of a command in upper case, and its argument without the blanks and tabs around it."""
    words = line.strip(b" \t").split(maxsplit=1)
    return words[0].upper() if words else b"", words[1] if len(words) > 1 else b""


def parsed(form: re.Pattern[bytes], argument: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """The address in MAIL or RCPT without its source route, and the parameters by keyword in upper case.

    A source route is accepted and ignored (RFC 5321 appendix C).
    """
    found = form.fullmatch(argument)
    if found is None:
        raise SMTPRefusal(501, "5.5.4", "the command needs an address like <scan@contoso.com>")
    path = found["path"] if found["bare"] is None else found["bare"]
    parameters = (parameter.partition(b"=") for parameter in found["parameters"].split())
    route = _SOURCE_ROUTE.match(path)
    return path[route.end() if route else 0 :], {keyword.upper(): value for keyword, _, value in parameters}


def check_path(path: bytes, may_be_utf8: bool) -> None:
    """Refuse an address that is not ASCII, or not UTF-8 if MAIL had SMTPUTF8 (RFC 6531)."""
    try:
        path.decode("utf-8" if may_be_utf8 else "ascii")
    except UnicodeDecodeError:
        raise SMTPRefusal(553, "5.6.7", "an address with characters other than ASCII needs SMTPUTF8") from None


def size_of(parameters: Mapping[bytes, bytes]) -> int:
    """The message size that the client announced (RFC 1870), 0 if it announced none."""
    size = parameters.get(b"SIZE", b"0")
    if not size.isdigit() or len(size) > _SIZE_DIGITS:
        raise SMTPRefusal(501, "5.5.4", "SIZE is not a number")
    return int(size)


def too_big(limit: int) -> SMTPRefusal:
    """The refusal of a message that is larger than `limit` octets (RFC 1870)."""
    return SMTPRefusal(552, "5.3.4", f"the message is bigger than {limit} octets", Cause.TOO_BIG)


def rcpt_passed_on(parameters: Mapping[bytes, bytes], extensions: Extensions) -> list[bytes]:
    """The parameters of RCPT that the mail server understands; those of RFC 3461 are dropped where it offers no DSN."""
    if any(keyword not in (b"NOTIFY", b"ORCPT") for keyword in parameters):
        raise SMTPRefusal(555, "5.5.4", "RCPT has a parameter that was not offered")
    return [keyword + b"=" + value for keyword, value in parameters.items() if "DSN" in extensions]


def mail_passed_on(parameters: Mapping[bytes, bytes], extensions: Extensions) -> list[bytes]:
    """The parameters of MAIL that the mail server understands; those of RFC 3461 are dropped where it offers no DSN."""
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
                    raise SMTPRefusal(
                        554, "5.6.3", "the mail server takes no 8-bit messages: encode the text as base64"
                    )
            case b"SMTPUTF8", b"":
                needed, text = "SMTPUTF8", b"SMTPUTF8"
                if needed not in extensions:
                    raise SMTPRefusal(553, "5.6.7", "the mail server takes no addresses in UTF-8")
            case b"RET" | b"ENVID", _:
                needed, text = "DSN", keyword + b"=" + value
            case b"AUTH", _:
                # The parameter names the submitter (RFC 4954 section 5), a relay user unknown to the mail server.
                continue
            case _:
                raise SMTPRefusal(555, "5.5.4", "MAIL has a parameter that was not offered")
        if needed in extensions:
            passed.append(text)
    return passed
