"""What the relay changes in the messages of a relay user that is set so, for devices that can not be set otherwise.

A message with bare line feeds gets CRLF line ends, and From gets the address that the mailbox may use. The input ends
at CRLF.CRLF only, and the output has no other end of a message: dots are stuffed again (RFC 5321 section 4.5.2).
"""

from __future__ import annotations

import re
from email.utils import formataddr, parseaddr

from adapters.mail.line_connection import BareControl, TooLong
from adapters.relay.message_scanner import LINE_LIMIT_OCTETS, MessageScanner

_HEADER_LIMIT_OCTETS = 256 * 1024
_FROM_LIMIT_OCTETS = 998
"""A longer From has no display name for us: the library's parser takes a call for each nested comment."""
_FROM = re.compile(rb"(?im)^From[ \t]*:((?:[^\r\n]*\r\n[ \t])*[^\r\n]*)\r\n")


class NormalizingScanner(MessageScanner):
    """Checks a message piece by piece, and makes a CRLF of each bare LF. A bare CR and a NUL stay errors."""

    def __init__(self) -> None:
        super().__init__()
        self._is_after_crlf = True

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """As `MessageScanner.feed`; only whole lines are passed on."""
        lines = (self._held + data).split(b"\n")
        self._held = lines.pop()
        passed: list[bytes] = []
        for number, line in enumerate(lines):
            if line == b".\r" and self._is_after_crlf:
                passed.append(b".\r\n")
                rest = b"\n".join([*lines[number + 1 :], self._held])
                return self._counted(passed), rest
            passed.append(self._line(line))
        if len(self._held) > LINE_LIMIT_OCTETS + 1:
            raise TooLong(f"a line of more than {LINE_LIMIT_OCTETS} octets")
        return self._counted(passed), None

    def _line(self, line: bytes) -> bytes:
        """The line with CRLF at its end, its leading dot removed where it was stuffed, and stuffed anew."""
        text = line.removesuffix(b"\r")
        if b"\r" in text or b"\0" in text:
            raise BareControl("a message with a bare CR or a NUL in it")
        if len(text) > LINE_LIMIT_OCTETS:
            raise TooLong(f"a line of more than {LINE_LIMIT_OCTETS} octets")
        if self._is_after_crlf:
            text = text.removeprefix(b".")
        self._is_after_crlf = line.endswith(b"\r")
        return (b"." if text.startswith(b".") else b"") + text + b"\r\n"

    def _counted(self, passed: list[bytes]) -> bytes:
        message = b"".join(passed)
        self.octets += len(message)
        return message


class SenderRewriter:
    """Puts `sender` in place of the address in From; the display name stays. The header is held until its end."""

    def __init__(self, sender: str) -> None:
        self._sender = sender
        self._header: bytearray | None = bytearray()

    def feed(self, message: bytes, *, is_last: bool) -> bytes:
        """The octets to pass on; `is_last` is whether the piece ends the message.

        Raises:
            TooLong: the header has more than 262,144 octets.
        """
        if self._header is None:
            return message
        held, looked_at = self._header, max(0, len(self._header) - 3)
        held += message
        end = 0 if held.startswith(b"\r\n") else held.find(b"\r\n\r\n", looked_at) + 2
        if end == 1:
            if len(held) > _HEADER_LIMIT_OCTETS:
                raise TooLong(f"a header of more than {_HEADER_LIMIT_OCTETS} octets")
            if not is_last:
                return b""
            end = len(held) - len(b".\r\n")
        self._header = None
        return self._rewritten(bytes(held[:end])) + held[end:]

    def _rewritten(self, header: bytes) -> bytes:
        found = _FROM.search(header)
        field = self._field(_display_name(found[1]) if found else "")
        if found is None:
            return field + header
        return header[: found.start()] + field + _FROM.sub(b"", header[found.end() :])

    def _field(self, name: str) -> bytes:
        """The field From. A display name with a character that could end the line is left out."""
        printable = name if name.isprintable() and len(name) < 200 else ""
        return f"From: {formataddr((printable, self._sender))}\r\n".encode()


def _display_name(value: bytes) -> str:
    """The display name in From, "" if there is none that can be read."""
    if len(value) > _FROM_LIMIT_OCTETS:
        return ""
    try:
        return parseaddr(value.decode("utf-8", "surrogateescape"))[0]
    except RecursionError:
        return ""
