"""Checks a message while it streams through the relay, without keeping it.

A message ends at CRLF.CRLF only. A bare CR, a bare LF and a NUL are errors: a server that takes a bare CR or LF for a
line end may see the end of the message, and commands after it, where another server sees content (CVE-2023-51764,
CVE-2024-27305).
The scanner changes nothing: dots stay stuffed (RFC 5321 section 4.5.2).
"""

from __future__ import annotations

from adapters.mail.line_connection import BareControl, TooLong

LINE_LIMIT_OCTETS = 8192
"""RFC 5321 section 4.5.3.1.6 sets 1,000, which many scripts exceed; the mail server may refuse longer lines itself."""
_END = b"\r\n.\r\n"


class MessageScanner:
    """Checks a message piece by piece. `octets` is its length so far, with stuffed dots and the final dot."""

    def __init__(self) -> None:
        self.octets = 0
        self._held = b""
        # The line end of the DATA command: an empty message is the final dot alone.
        self._before = b"\r\n"
        self._line_octets = 0

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """The octets to pass on, and the octets behind the end of the message, None if the end has not come yet.

        A CR at the end of a piece is held back until the next octet has come.

        Raises:
            BareControl: the message contains a bare CR, a bare LF or a NUL.
            TooLong: a line has more than 8,192 octets.
        """
        if self._held:
            data, self._held = self._held + data, b""
        end = self._end_in(data)
        if end is not None:
            message, rest = data[:end], data[end:]
        elif data.endswith(b"\r"):
            message, rest, self._held = data[:-1], None, b"\r"
        else:
            message, rest = data, None
        self._check(message)
        self.octets += len(message)
        self._before = (self._before + message[-4:])[-4:]
        return message, rest

    def _end_in(self, data: bytes) -> int | None:
        """The index in `data` behind the last octet of the message."""
        at = (self._before + data[:4]).find(_END)
        if at >= 0:
            return at + len(_END) - len(self._before)
        at = data.find(_END)
        return at + len(_END) if at >= 0 else None

    def _check(self, message: bytes) -> None:
        line_ends = message.count(b"\r\n")
        if message.count(b"\n") != line_ends or message.count(b"\r") != line_ends or b"\0" in message:
            raise BareControl("a message with a bare CR or LF, or a NUL in it")
        self._check_lines(message)

    def _check_lines(self, message: bytes) -> None:
        """Check the lengths of lines in jumps of the longest allowed length, which is faster than line by line."""
        start = -self._line_octets
        while len(message) - start > LINE_LIMIT_OCTETS:
            end = message.rfind(b"\n", max(start, 0), start + LINE_LIMIT_OCTETS + 2)
            if end < 0:
                raise TooLong(f"a line of more than {LINE_LIMIT_OCTETS} octets")
            start = end + 1
        last = message.rfind(b"\n", max(start, 0))
        self._line_octets = len(message) - (start if last < 0 else last + 1)
