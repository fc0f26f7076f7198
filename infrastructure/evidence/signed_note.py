"""Signed notes with Ed25519 keys, as `signed-note.md` of C2SP specifies them.

A note is a text, an empty line, and a line for each signature. A signature names its key; one of another key says
nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ED25519 = b"\1"
"""The signature type identifier of Ed25519."""
_ID_BYTES = 4
_LARGEST_NOTE_BYTES = 100_000
_SIGNATURE = re.compile("\u2014 (?P<name>[^\\s+]+) (?P<signature>[A-Za-z0-9+/]+={0,2})")


class NotANote(ValueError):
    """The octets are no signed note."""


@dataclass(frozen=True)
class NoteKey:
    """The public key, of 32 octets, of a signer with this name."""

    name: str
    public_key: bytes

    @property
    def id(self) -> bytes:
        """The first octets of a hash over the name and the key, by which a signature names its key."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key).digest()[:_ID_BYTES]

    @property
    def text(self) -> str:
        """The key in the form that verifiers take, the *vkey*: name, id in hexadecimal, and key in base64."""
        return f"{self.name}+{self.id.hex()}+{_base64(_ED25519 + self.public_key)}"


@dataclass(frozen=True)
class Note:
    """A note that was read. `signatures` are pairs of a key's name and the octets after it."""

    text: str
    signatures: tuple[tuple[str, bytes], ...]

    def is_signed_by(self, key: NoteKey) -> bool:
        """Whether the key has signed this text; every signature that names the key must be right."""
        own = [
            octets[_ID_BYTES:] for name, octets in self.signatures if (name, octets[:_ID_BYTES]) == (key.name, key.id)
        ]
        public_key = Ed25519PublicKey.from_public_bytes(key.public_key)
        try:
            for signature in own:
                public_key.verify(signature, self.text.encode())
        except InvalidSignature:
            return False
        return bool(own)


class NoteSigner:
    """Signs notes with a private key, under a name."""

    def __init__(self, name: str, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self.public = NoteKey(name, private_key.public_key().public_bytes_raw())

    def sign(self, text: str) -> str:
        """The signed note of a text, which ends with a newline."""
        signature = _base64(self.public.id + self._private_key.sign(text.encode()))
        return f"{text}\n\u2014 {self.public.name} {signature}\n"


def read_note(octets: bytes) -> Note:
    """Read a signed note; no signature is verified.

    Raises:
        NotANote: the octets are something else.
    """
    try:
        content = octets[: _LARGEST_NOTE_BYTES + 1].decode()
    except UnicodeDecodeError:
        raise NotANote("it is not UTF-8") from None
    if len(octets) > _LARGEST_NOTE_BYTES or any(character < " " and character != "\n" for character in content):
        raise NotANote("it is too long, or has a control character")
    text, separator, signatures = content.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise NotANote("it has no signatures")
    return Note(f"{text}\n", tuple(_read_signature(line) for line in signatures[:-1].split("\n")))


def _read_signature(line: str) -> tuple[str, bytes]:
    match = _SIGNATURE.fullmatch(line)
    if not match:
        raise NotANote("a signature has another form")
    octets = decode_base64(match["signature"])
    if len(octets) <= _ID_BYTES:
        raise NotANote("a signature is too short")
    return match["name"], octets


def decode_base64(text: str) -> bytes:
    """The octets of a text in base64.

    Raises:
        NotANote: it is another text, also one that another encoder would have written in another way.
    """
    try:
        octets = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NotANote("it is not base64") from None
    if _base64(octets) != text:
        raise NotANote("it is not base64 in its one form")
    return octets


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()
