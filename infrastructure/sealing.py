"""Envelope encryption: what is sealed opens only with the key of this store, at the place it was sealed for.

Each sealing has a fresh data key, wrapped by the key-encryption key; both layers are AES-256-GCM and bind the place
(store, token, generation, kind) as associated data, so a row that was swapped or damaged does not open.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.errors import StoreRefused, VaultDamaged

ALGORITHM = "A256GCM"
_NONCE_BYTES = 12
_KEY_BYTES = 32


@dataclass(frozen=True)
class Place:
    """Where a sealed value belongs."""

    store_id: str
    token_id: str
    kind: str
    generation: int


@dataclass(frozen=True)
class Sealed:
    """A sealed value: algorithm, the key's id, the wrapped data key, and nonce plus ciphertext plus tag."""

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
        """What `as_text` wrote.

        Raises:
            ValueError, KeyError: it is not that, or not all of it.
        """
        value = json.loads(text)
        wrapped, body = (base64.b64decode(value[part], validate=True) for part in ("wrapped", "body"))
        return cls(value["algorithm"], value["key_id"], wrapped, body)


@dataclass(frozen=True)
class Sealer:
    """Seals and opens with one key-encryption key of 32 bytes."""

    key: bytes = field(repr=False)

    @property
    def key_id(self) -> str:
        """Names the key without saying anything about it."""
        return hashlib.sha256(b"mailtoken key id\0" + self.key).hexdigest()[:16]

    def seal(self, value: bytes, place: Place) -> Sealed:
        """Seal `value` for `place`, under a data key used for nothing else."""
        bound = self._bound(place, ALGORITHM, self.key_id)
        data_key = AESGCM.generate_key(256)
        return Sealed(ALGORITHM, self.key_id, _encrypt(self.key, data_key, bound), _encrypt(data_key, value, bound))

    def open(self, sealed: Sealed, place: Place) -> bytes:
        """Open what was sealed for `place`.

        Raises:
            VaultDamaged: it was damaged, sealed for another place, or with another key.
        """
        bound = self._bound(place, sealed.algorithm, sealed.key_id)
        try:
            return _decrypt(_decrypt(self.key, sealed.wrapped, bound), sealed.body, bound)
        except (InvalidTag, ValueError):
            raise VaultDamaged(
                f"the {place.kind} {place.generation} of token {place.token_id} does not open: "
                "it was damaged, swapped or sealed with another key"
            ) from None

    @staticmethod
    def _bound(place: Place, algorithm: str, key_id: str) -> bytes:
        parts = (place.store_id, place.token_id, str(place.generation), place.kind, algorithm, key_id)
        return "\0".join(("mailtoken", *parts)).encode()


def _encrypt(key: bytes, value: bytes, bound: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, value, bound)


def _decrypt(key: bytes, sealed: bytes, bound: bytes) -> bytes:
    return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound)


def create_key_file(path: Path) -> None:
    """Write a new random key, readable by its owner only.

    Raises:
        FileExistsError: there is a file already; it is left as it is.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(secrets.token_bytes(_KEY_BYTES)) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_key(key_file: Path, environment: Mapping[str, str]) -> Sealer:
    """The key, from the first source there is: a systemd credential, the key file, the environment.

    The credential is called `mailtoken.key` (systemd.exec(5), LoadCredential=); the variable, for development,
    is MAILTOKEN_KEY.

    Raises:
        StoreRefused: no source, a key file others may read, or not a key.
    """
    credentials = environment.get("CREDENTIALS_DIRECTORY")
    credential = Path(credentials, "mailtoken.key") if credentials else None
    if credential and credential.exists():
        return _sealer(credential.read_bytes(), str(credential))
    if key_file.exists():
        if stat.S_IMODE(key_file.stat().st_mode) & 0o077:
            raise StoreRefused(f"the key {key_file} can be read by others: chmod 600 {key_file}")
        return _sealer(key_file.read_bytes(), str(key_file))
    if "MAILTOKEN_KEY" in environment:
        return _sealer(environment["MAILTOKEN_KEY"].encode(), "MAILTOKEN_KEY")
    raise StoreRefused(f"there is no key at {key_file}: restore it from your backup; nothing opens without it")


def _sealer(text: bytes, source: str) -> Sealer:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise StoreRefused(f"{source} does not hold a key: 32 bytes in base64, as mailtoken init writes it")
    return Sealer(key)
