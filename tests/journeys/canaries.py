"""Looks for secrets where none may be: as they are, and in the dress that URLs, headers and dumps put on them."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote_from_bytes

_WINDOW = 20
"""So many characters of a secret in a row are too many to have got there by chance."""
_ID_TOKEN = re.compile(rb"eyJ[A-Za-z0-9_-]{16,}\.eyJ[A-Za-z0-9_-]{16,}")


def sightings(secrets: Iterable[str | bytes], places: Mapping[str, bytes]) -> list[str]:
    """Which secret is where, and how; without the secret itself."""
    seen = []
    for number, secret in enumerate(secrets):
        value = secret.encode() if isinstance(secret, str) else secret
        dressed = {(dress, needle) for window in _windows(value) for dress, needle in _dresses(window)}
        seen += [
            f"secret {number} ({len(value)} bytes, {dress}) is in {place}"
            for place, haystack in places.items()
            for dress, needle in sorted(dressed)
            if needle in haystack
        ]
    seen += [f"an ID token is in {place}" for place, haystack in places.items() if _ID_TOKEN.search(haystack)]
    return seen


def _windows(value: bytes) -> set[bytes]:
    """The beginning, the middle and the end of a long secret: a place may show a part only."""
    starts = {0, max(0, (len(value) - _WINDOW) // 2), max(0, len(value) - _WINDOW)}
    return {value[start : start + _WINDOW] for start in starts}


def _dresses(value: bytes) -> Iterator[tuple[str, bytes]]:
    yield "plain", value
    yield "hexadecimal", value.hex().encode()
    yield "hexadecimal", value.hex().upper().encode()
    yield "URL-encoded", quote_from_bytes(value, safe="").encode()
    yield "URL-encoded to the last character", b"".join(b"%%%02X" % byte for byte in value)
    yield "UTF-16", value.decode("latin-1").encode("utf-16-le")
    for ahead in range(3):
        # In base64 it depends on what stands before and behind: only what is sure is looked for.
        encoded = base64.b64encode(bytes(ahead) + value).rstrip(b"=")
        sure = encoded[-(-8 * ahead // 6) : (ahead + len(value)) * 8 // 6]
        yield "base64", sure
        yield "base64url", sure.translate(bytes.maketrans(b"+/", b"-_"))
