"""Completes a message as programs hand it to sendmail, so that it can be sent.

Programs leave out what sendmail adds: Date, Message-ID and From (RFC 5322 section 3.6), and the Resent fields of the
same names in a message that is sent again. A From that only this machine knows, such as cron's `root`, is replaced by
an address that a mail server accepts. Bcc and Resent-Bcc never leave this machine.

Bytes stay unchanged, except those that no mail server takes: a carriage return within a line (a progress bar's) and a
NUL become blanks.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import AddressHeader, HeaderRegistry
from email.utils import format_datetime, formataddr, getaddresses, make_msgid

from domain.errors import InvalidValue

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
_BLANK = (b"\n", b"\r\n")
_RECIPIENT_FIELDS = ("to", "cc", "bcc")
_RESENT = "resent-"
# The fields that a mail server puts on top of a message, so also between two blocks of Resent fields.
_TRACE_FIELDS = ("received", "return-path", "delivered-to")
_CARRIAGE_RETURNS_BEFORE_LINE_FEED = re.compile(rb"(?<!\r)\r{2,}\n")
_NOT_SENDABLE = re.compile(rb"\r(?!\n)|\0")
# A quoted string or a comment, to the end of the text if it is not closed; an address in brackets or a domain literal;
# a mark of the list; or text between them.
_WORD_OR_MARK = re.compile(
    r'"(?:[^"\\]|\\.)*\\?(?:"|\Z)|\((?:[^()\\]|\\.)*\\?(?:\)|\Z)|<[^<>]*>|\[[^\[\]]*\]|[:;]|[^":;(<\[]+|.', re.DOTALL
)
# The library's parser takes a time that grows with the square of a field, and a call for each nested comment.
_READ_CHARACTERS = 32 * 1024
_LISTED = re.compile("[<,;]")
_read_field = HeaderRegistry()


@dataclass(frozen=True)
class Field:
    """One header field: its name in lower case, and its lines unchanged."""

    name: str
    raw: bytes

    def addresses(self) -> list[str]:
        """The addresses in it, without names and comments."""
        return [address for _, address in self._mailboxes() if address not in ("", "<>")]

    def names(self) -> list[str]:
        """The display names of its addresses."""
        return [name for name, _ in self._mailboxes() if name]

    def _mailboxes(self) -> list[tuple[str, str]]:
        """The display name and the address of each mailbox in it.

        Raises:
            InvalidValue: the field is too long to be read, or its comments are nested too deeply.
        """
        value = self.raw.partition(b":")[2].decode("utf-8", "replace")
        if len(value) > _READ_CHARACTERS:
            raise InvalidValue(self.name, "header_field_too_long", limit=_READ_CHARACTERS)
        text = _with_commas(re.sub(r"[\r\n]+", "", value).strip())
        try:
            return _read_mailboxes(self.name, text)
        except RecursionError:
            raise InvalidValue(self.name, "header_field_too_deep") from None


@dataclass(frozen=True)
class Message:
    """A message in its parts."""

    fields: tuple[Field, ...]
    body: bytes

    @classmethod
    def read(cls, raw: bytes) -> Message:
        """Parse a message. The body begins at the first line that is no header field, with or without a blank line."""
        lines = _sendable(raw).splitlines(keepends=True)
        if lines and lines[0].startswith(b"From "):
            del lines[0]
        fields: list[tuple[str, list[bytes]]] = []
        at = 0
        for at, line in enumerate([*lines, b""]):  # noqa: B007 - where the header ends is used after the loop
            match = _FIELD.match(line)
            if match:
                fields.append((match[1].decode("ascii").lower(), [line]))
            elif fields and line[:1] in (b" ", b"\t"):
                fields[-1][1].append(line)
            else:
                break
        if at < len(lines) and lines[at] in _BLANK:
            at += 1
        return cls(tuple(Field(name, b"".join(raw)) for name, raw in fields), b"".join(lines[at:]))

    def sender(self) -> str | None:
        """The first address of the author that is not only this machine's; None if there is none.

        The author is in Resent-From if the message is sent again, else in From.
        """
        return _known_address(self._resent_block("from")) or self._known_from()

    def sender_name(self) -> str | None:
        """The first name in From."""
        return next((name for field in self.fields if field.name == "from" for name in field.names()), None)

    def recipients(self) -> list[str]:
        """The addresses in To, Cc and Bcc; in a message that is sent again, those of its newest Resent fields alone."""
        if self._is_resent:
            fields = self._resent_block(*_RECIPIENT_FIELDS)
        else:
            fields = [field for field in self.fields if field.name in _RECIPIENT_FIELDS]
        return list(dict.fromkeys(address for field in fields for address in field.addresses()))

    def has(self, name: str) -> bool:
        """Whether the message has a field of this name."""
        return any(field.name == name for field in self.fields)

    def completed(self, sender: str, sender_name: str | None, now: datetime) -> bytes:
        """The message with the missing fields, a From that a mail server accepts, and without Bcc and Resent-Bcc."""
        newline = b"\r\n" if any(field.raw.endswith(b"\r\n") for field in self.fields) else b"\n"
        added = [f"{name}: {value}".encode() + newline for name, value in self._missing(sender, sender_name, now)]
        dropped = {"bcc", "resent-bcc"} | (set() if self._known_from() else {"from"})
        kept = [field.raw for field in self.fields if field.name not in dropped]
        if kept and not kept[-1].endswith(b"\n"):
            kept.append(newline)
        return b"".join([*added, *kept, newline, self.body])

    @property
    def _is_resent(self) -> bool:
        return any(field.name.startswith(_RESENT) for field in self.fields)

    def _resent_block(self, *names: str) -> list[Field]:
        """The Resent fields of these names, without `resent-`, in the newest block (RFC 5322 section 3.6.6).

        Each resending puts a block on top. The newest ends where a Resent field comes for the second time, or where a
        mail server put its own fields.
        """
        block: dict[str, Field] = {}
        for field in self.fields:
            if field.name in block or (block and field.name in _TRACE_FIELDS):
                break
            if field.name.startswith(_RESENT):
                block[field.name] = field
        return [field for name, field in block.items() if name.removeprefix(_RESENT) in names]

    def _missing(self, sender: str, sender_name: str | None, now: datetime) -> Iterator[tuple[str, str]]:
        author = formataddr((sender_name, sender)) if sender.isascii() else sender
        domain = sender.rpartition("@")[2] or "localhost"
        if self._is_resent:
            if not self._resent_block("date"):
                yield "Resent-Date", format_datetime(now)
            if not self._resent_block("message-id"):
                yield "Resent-Message-ID", make_msgid(domain=domain)
            if not self._resent_block("from"):
                yield "Resent-From", author
        if not self.has("date"):
            yield "Date", format_datetime(now)
        if not self.has("message-id"):
            yield "Message-ID", make_msgid(domain=domain)
        if not self._known_from():
            yield "From", author

    def _known_from(self) -> str | None:
        return _known_address(field for field in self.fields if field.name == "from")


def _read_mailboxes(name: str, text: str) -> list[tuple[str, str]]:
    try:
        header = _read_field(name, text)
        assert isinstance(header, AddressHeader)
        return [(address.display_name, address.addr_spec) for address in header.addresses]
    except (AttributeError, LookupError, TypeError, ValueError):
        # The library's newer parser fails on some malformed fields, and its older one reads them.
        return getaddresses([text])


def _sendable(raw: bytes) -> bytes:
    """The bytes with line ends that are LF or CRLF, and with blanks for other carriage returns and for NUL."""
    if b"\n" not in raw:
        raw = raw.replace(b"\r", b"\n")
    return _NOT_SENDABLE.sub(b" ", _CARRIAGE_RETURNS_BEFORE_LINE_FEED.sub(b"\r\n", raw))


def _known_address(fields: Iterable[Field]) -> str | None:
    """The first address in the fields that is not only this machine's."""
    return next((address for field in fields for address in field.addresses() if not is_local(address)), None)


def addresses_of(argument: str) -> list[str]:
    """The addresses in a recipient's argument, which may be a list, and have names and angle brackets."""
    if not _LISTED.search(argument):
        return [argument]
    return Field("to", b"To: " + argument.encode("utf-8", "surrogateescape")).addresses() or [argument]


def _with_commas(text: str) -> str:
    """A list of addresses with commas in place of the semicolons that end no group, and behind those that do."""
    parts: list[str] = []
    is_in_group = False
    for part in _WORD_OR_MARK.findall(text):
        if part == ";":
            parts.append(";," if is_in_group else ",")
            is_in_group = False
            continue
        is_in_group = is_in_group or part == ":"
        parts.append(part)
    return "".join(parts)


def is_local(address: str) -> bool:
    """Whether only this machine knows the address: it has no domain, one without a dot, or this machine's own name."""
    domain = address.rpartition("@")[2] if "@" in address else ""
    return "." not in domain or domain.casefold() == socket.gethostname().casefold()
