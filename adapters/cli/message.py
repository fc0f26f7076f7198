"""A message as programs hand it to sendmail, made into one that can be sent. Bytes that are there stay as they are.

Programs leave out what sendmail adds: Date, Message-ID and From (RFC 5322 section 3.6). A From that only this machine
knows, such as cron's `root`, gives way to one that a mail server takes. Bcc never leaves this machine.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import AddressHeader, HeaderRegistry
from email.utils import format_datetime, formataddr, make_msgid

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
_BLANK = (b"\n", b"\r\n")
_RECIPIENT_FIELDS = ("to", "cc", "bcc")
_read_field = HeaderRegistry()


@dataclass(frozen=True)
class Field:
    """One header field: its name in lower case, and its lines as they are."""

    name: str
    raw: bytes

    def addresses(self) -> list[str]:
        """The addresses in it, without names and comments."""
        found = self._header().addresses
        return [address.addr_spec for address in found if address.addr_spec not in ("", "<>")]

    def names(self) -> list[str]:
        """The names that stand with its addresses."""
        return [address.display_name for address in self._header().addresses if address.display_name]

    def _header(self) -> AddressHeader:
        value = self.raw.partition(b":")[2].decode("utf-8", "replace")
        header = _read_field(self.name, re.sub(r"[\r\n]+", "", value).strip())
        assert isinstance(header, AddressHeader)
        return header


@dataclass(frozen=True)
class Message:
    """A message in its parts."""

    fields: tuple[Field, ...]
    body: bytes

    @classmethod
    def read(cls, raw: bytes) -> Message:
        """Take a message apart. What does not look like a header field begins the body, blank line or not."""
        lines = raw.splitlines(keepends=True)
        if lines and lines[0].startswith(b"From "):
            del lines[0]
        fields: list[Field] = []
        at = 0
        for at, line in enumerate([*lines, b""]):  # noqa: B007 - where the header ends is used after the loop
            match = _FIELD.match(line)
            if match:
                fields.append(Field(match[1].decode("ascii").lower(), line))
            elif fields and line[:1] in (b" ", b"\t"):
                fields[-1] = Field(fields[-1].name, fields[-1].raw + line)
            else:
                break
        if at < len(lines) and lines[at] in _BLANK:
            at += 1
        return cls(tuple(fields), b"".join(lines[at:]))

    def sender(self) -> str | None:
        """The first address in From that is not only this machine's; None if there is none."""
        return next((one for one in self._addresses("from") if not is_local(one)), None)

    def sender_name(self) -> str | None:
        """The first name in From."""
        return next((name for field in self.fields if field.name == "from" for name in field.names()), None)

    def recipients(self) -> list[str]:
        """The addresses in To, Cc and Bcc."""
        return list(dict.fromkeys(self._addresses(*_RECIPIENT_FIELDS)))

    def has(self, name: str) -> bool:
        """Whether it has such a field."""
        return any(field.name == name for field in self.fields)

    def completed(self, sender: str, sender_name: str | None, now: datetime) -> bytes:
        """The message with the fields that were missing, a From that a mail server knows, and without Bcc."""
        newline = b"\r\n" if any(field.raw.endswith(b"\r\n") for field in self.fields) else b"\n"
        added = [f"{name}: {value}".encode() + newline for name, value in self._missing(sender, sender_name, now)]
        dropped = ("bcc",) if self.sender() else ("bcc", "from")
        kept = [field.raw for field in self.fields if field.name not in dropped]
        return b"".join([*added, *kept, newline, self.body])

    def _missing(self, sender: str, sender_name: str | None, now: datetime) -> Iterator[tuple[str, str]]:
        if not self.has("date"):
            yield "Date", format_datetime(now)
        if not self.has("message-id"):
            yield "Message-ID", make_msgid(domain=sender.rpartition("@")[2] or "localhost")
        if not self.sender():
            yield "From", formataddr((sender_name, sender)) if sender.isascii() else sender

    def _addresses(self, *names: str) -> Sequence[str]:
        return [address for field in self.fields if field.name in names for address in field.addresses()]


def is_local(address: str) -> bool:
    """Whether only this machine knows the address: it has no domain, one without a dot, or this machine's own name."""
    domain = address.rpartition("@")[2] if "@" in address else ""
    return "." not in domain or domain.casefold() == socket.gethostname().casefold()
