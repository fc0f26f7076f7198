"""A message on its way through: checked as it streams, never kept.

It ends at CRLF.CRLF and nowhere else. A bare CR or LF is an error, not a line end, and so is a NUL: with them, what
one server takes for the inside of a message is for the next one its end, and more commands behind it
(CVE-2023-51764, CVE-2024-27305). Nothing is changed: dots stay stuffed (RFC 5321 section 4.5.2).
"""

from __future__ import annotations

from adapters.relay.lines import BareControl, TooLong

LINE_LIMIT_OCTETS = 8192
"""RFC 5321 section 4.5.3.1.6 has 1,000, which many scripts ignore; whether it takes longer ones the server says."""
_END = b"\r\n.\r\n"


class MessageScanner:
    """Looks at a message piece by piece. `octets` is how much of it there was, dots and end included."""

    def __init__(self) -> None:
        self.octets = 0
        self._held = b""
        # What DATA's own line ended with: a message may begin with its end.
        self._before = b"\r\n"
        self._line_octets = 0

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """What of the message may be passed on, and what came behind its end; None if that has not come yet.

        A CR at the end of a piece is held back until it is known what follows.

        Raises:
            BareControl: a bare CR or LF, or a NUL.
            TooLong: a line of more than 8,192 octets.
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
        """Where in `data` the message ends, behind its last octet."""
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
        """Jump from line end to line end, as far as a line may reach; stepping through each line takes longer."""
        start = -self._line_octets
        while len(message) - start > LINE_LIMIT_OCTETS:
            end = message.rfind(b"\n", max(start, 0), start + LINE_LIMIT_OCTETS + 2)
            if end < 0:
                raise TooLong(f"a line of more than {LINE_LIMIT_OCTETS} octets")
            start = end + 1
        last = message.rfind(b"\n", max(start, 0))
        self._line_octets = len(message) - (start if last < 0 else last + 1)
