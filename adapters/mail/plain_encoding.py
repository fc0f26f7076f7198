"""Encodes a message for a server that takes neither 8-bit text nor lines of any length.

Text becomes quoted-printable (RFC 2045), header fields become encoded words (RFC 2047). The reader of the mail sees the
same message. A part that needs no encoding keeps its bytes.
"""

from __future__ import annotations

import base64
import quopri
import re
from email import message_from_bytes, policy
from email.generator import BytesGenerator
from email.headerregistry import HeaderRegistry
from email.message import Message
from io import BytesIO

LINE_OCTETS = 998
"""The limit for a line without its CRLF (RFC 5322 section 2.1.1)."""
# Without a limit for lines the library leaves header fields as they are.
_AS_IT_IS = policy.compat32.clone(max_line_length=None, cte_type="8bit", linesep="\r\n")
_FIELD_END = re.compile(rb"(?<=\r\n)(?![ \t])")
_FOLDED = policy.SMTP.clone(utf8=False)
_read_field = HeaderRegistry()
_read_text = HeaderRegistry(use_default_map=False)


def has_long_lines(content: bytes) -> bool:
    """Whether a line is longer than a mail server must take."""
    return any(len(line) > LINE_OCTETS for line in content.splitlines())


def encoded_header(content: bytes) -> bytes:
    """The message with a header in ASCII and in short lines, apart from addresses that are not in ASCII."""
    header, blank, body = content.partition(b"\r\n\r\n")
    fields = filter(None, _FIELD_END.split(header + b"\r\n"))
    return b"".join(map(_encoded_field, fields)) + blank.removeprefix(b"\r\n") + body


def encoded_body(content: bytes) -> bytes:
    """The message with a body in ASCII and in short lines."""
    message = message_from_bytes(content, policy=_AS_IT_IS)
    for part in message.walk():
        if not part.is_multipart():
            _encode(part)
    written = BytesIO()
    BytesGenerator(written, mangle_from_=False, policy=_AS_IT_IS).flatten(message)
    return written.getvalue()


def _encode(part: Message) -> None:
    written = part.get_payload()
    if not isinstance(written, str) or (written.isascii() and not has_long_lines(written.encode())):
        return
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    is_base64 = str(part.get("Content-Transfer-Encoding", "")).strip().lower() == "base64"
    if "MIME-Version" not in part:
        part["MIME-Version"] = "1.0"
    if "Content-Type" not in part:
        part["Content-Type"] = f"text/plain; charset={_charset(payload)}"
    del part["Content-Transfer-Encoding"]
    part["Content-Transfer-Encoding"] = "base64" if is_base64 else "quoted-printable"
    # quopri takes a CR for text, so lines have to end in LF; the generator ends them in CRLF.
    encoded = base64.encodebytes(payload) if is_base64 else quopri.encodestring(payload.replace(b"\r\n", b"\n"))
    part.set_payload(encoded.decode("ascii"))


def _charset(text: bytes) -> str:
    try:
        text.decode()
    except UnicodeDecodeError:
        return "iso-8859-1"
    return "utf-8"


def _encoded_field(field: bytes) -> bytes:
    if field.isascii() and not has_long_lines(field):
        return field
    name, _, lines = field.partition(b":")
    value = re.sub(rb"\r\n", b"", lines).strip().decode("utf-8", "surrogateescape")
    try:
        header = _read_field(name.decode("ascii"), value)
        addresses = getattr(header, "addresses", ())
        folded: str = header.fold(policy=_FOLDED)
    except (AttributeError, LookupError, TypeError, ValueError):
        # The library's parser fails on some malformed fields.
        return _read_text(name.decode("ascii"), value).fold(policy=_FOLDED).encode("ascii")
    if not all(address.addr_spec.isascii() for address in addresses):
        return field
    return folded.encode("ascii")
