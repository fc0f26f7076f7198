"""A message with its envelope, checked before a mail server sees any of it.

Every line of the message ends in CRLF only, so no server can read it as two messages (CVE-2023-51764).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from adapters.mail.plain_encoding import encoded_body, encoded_header, has_long_lines
from domain.errors import InvalidValue

_NO_PATH = re.compile("[\\x00-\\x20\\x7f<>\ud800-\udfff]")


@dataclass(frozen=True)
class Submission:
    """A message to hand over (RFC 6409).

    `content` ends each line in CRLF; dots are not stuffed yet. An empty `sender` is the null reverse-path.
    """

    sender: str
    recipients: tuple[str, ...]
    content: bytes

    @classmethod
    def of(cls, sender: str, recipients: Sequence[str], message: bytes) -> Submission:
        """Check an envelope and a message; bare line feeds become CRLF.

        Raises:
            InvalidValue: a bare carriage return or a NUL in the message, a malformed address, no recipients.
        """
        for field, address in (("sender", sender), *(("recipient", recipient) for recipient in recipients)):
            if _NO_PATH.search(address) or (not address and field == "recipient"):
                raise InvalidValue(field, "not_an_email_address", value=address)
        if not recipients:
            raise InvalidValue("recipients", "no_recipients")
        lines = message.replace(b"\r\n", b"\n")
        if b"\r" in lines or b"\0" in lines:
            raise InvalidValue("message", "bare_control_in_message")
        content = lines.replace(b"\n", b"\r\n")
        return cls(sender, tuple(recipients), content if content.endswith(b"\r\n") else content + b"\r\n")

    @property
    def needs_smtputf8(self) -> bool:
        """Whether an address or a header field is not in ASCII (RFC 6531, 6532)."""
        header = self.content.partition(b"\r\n\r\n")[0]
        return not (header.isascii() and all(address.isascii() for address in (self.sender, *self.recipients)))

    @property
    def needs_8bitmime(self) -> bool:
        """Whether the content has octets above 127 (RFC 6152)."""
        return not self.content.isascii()

    def fitting(self, *, takes_8bit: bool, takes_utf8: bool) -> Submission:
        """The submission as such a server takes it: with short lines, and encoded as far as that makes it ASCII."""
        content = self.content
        header, _, body = content.partition(b"\r\n\r\n")
        if has_long_lines(header) or not (takes_utf8 or header.isascii()):
            content = encoded_header(content)
        if has_long_lines(body) or not (takes_8bit or body.isascii()):
            content = encoded_body(content)
        return replace(self, content=content)

    @property
    def stuffed(self) -> bytes:
        """The content in the form it is sent: dots stuffed (RFC 5321 section 4.5.2), with the final dot."""
        return re.sub(rb"(?m)^\.", b"..", self.content) + b".\r\n"
