"""Envelope encryption: a sealed value opens only with the key of its store, and only at its own place.

Each value has a new data key, which the key-encryption key encrypts. Both encryptions are AES-256-GCM with the place
(store, subject, generation, kind) as associated data, so a row that was swapped or damaged does not open.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.errors import VaultDamaged

ALGORITHM = "A256GCM"
_NONCE_BYTES = 12
KEY_BYTES = 32


@dataclass(frozen=True)
class Place:
    """The row of a sealed value; the subject is a token, relay user, administrator or API client."""

    store_id: str
    subject_id: str
    kind: str
    generation: int


@dataclass(frozen=True)
class Sealed:
    """A sealed value: `wrapped` is the encrypted data key, `body` the value; each is nonce, ciphertext and tag."""

    algorithm: str
    key_id: str
    wrapped: bytes
    body: bytes

    def as_text(self) -> str:
        """One line of JSON, for a file or a text column."""
        wrapped, body = (base64.b64encode(part).decode() for part in (self.wrapped, self.body))
        return json.dumps({"algorithm": self.algorithm, "key_id": self.key_id, "wrapped": wrapped, "body": body})

    @classmethod
    def of_text(cls, text: str | bytes) -> Sealed:
        """The sealed value of a text that `as_text` returned.

        Raises:
            ValueError, KeyError: the text is another, or is not complete.
        """
        value = json.loads(text)
        wrapped, body = (base64.b64decode(value[part], validate=True) for part in ("wrapped", "body"))
        return cls(value["algorithm"], value["key_id"], wrapped, body)


class Sealer:
    """Opens with any of its key-encryption keys of 32 bytes, and seals with the one in use, by default the newest."""

    def __init__(self, *keys: bytes) -> None:
        self._keys = keys
        self._used = ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @property
    def keys(self) -> tuple[bytes, ...]:
        """All keys, the newest one first."""
        return self._keys

    @property
    def key_id(self) -> str:
        """The name of the key in use."""
        return key_id(self._key_in_use())

    def use(self, id: str) -> None:
        """Seal with the key of this name from now on; a name that none of the keys has stands for the newest one."""
        self._used = id

    def seal(self, value: bytes, place: Place) -> Sealed:
        """Encrypt `value` for `place`, with a new data key."""
        key = self._key_in_use()
        bound = self._bound(place, ALGORITHM, key_id(key))
        data_key = AESGCM.generate_key(256)
        return Sealed(ALGORITHM, key_id(key), _encrypt(key, data_key, bound), _encrypt(data_key, value, bound))

    def open(self, sealed: Sealed, place: Place) -> bytes:
        """Decrypt a value that was sealed for `place`.

        Raises:
            VaultDamaged: the value was damaged, or was sealed for another place or with another key.
        """
        bound = self._bound(place, sealed.algorithm, sealed.key_id)
        keys = self.keys
        key = next((key for key in keys if key_id(key) == sealed.key_id), keys[0])
        try:
            return _decrypt(_decrypt(key, sealed.wrapped, bound), sealed.body, bound)
        except (InvalidTag, ValueError):
            raise VaultDamaged(
                "sealed_value_damaged", kind=place.kind, number=place.generation, subject=place.subject_id
            ) from None

    def _key_in_use(self) -> bytes:
        keys = self.keys
        return next((key for key in keys if key_id(key) == self._used), keys[0])

    @staticmethod
    def _bound(place: Place, algorithm: str, key_id: str) -> bytes:
        parts = (place.store_id, place.subject_id, str(place.generation), place.kind, algorithm, key_id)
        return "\0".join(("mailtoken", *parts)).encode()


def key_id(key: bytes) -> str:
    """A hash that names a key and does not reveal it."""
    return hashlib.sha256(b"mailtoken key id\0" + key).hexdigest()[:16]


def _encrypt(key: bytes, value: bytes, bound: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, value, bound)


def _decrypt(key: bytes, sealed: bytes, bound: bytes) -> bytes:
    return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound)
