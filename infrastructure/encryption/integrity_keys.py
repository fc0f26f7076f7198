"""The integrity keys of a store: they authenticate the rows and the hash chain, and sign checkpoints.

They are random and sealed under the key-encryption key, so a change of that key leaves every MAC as it is. A MAC begins
with the number of the key that made it.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_KEY_BYTES = 32
_NUMBER_BYTES = 4
MAC_BYTES = _NUMBER_BYTES + 32


class Purpose(StrEnum):
    """The use of an integrity key."""

    ROWS = "rows"
    CHAIN = "chain"
    SIGNING = "signing"


@dataclass(frozen=True)
class NumberedKeys:
    """The keys of one purpose by their numbers; the one with the highest number is in use."""

    _keys: Mapping[int, bytes] = field(repr=False)

    @property
    def newest(self) -> int:
        """The number of the key in use."""
        return max(self._keys)

    @property
    def numbers(self) -> list[int]:
        """The numbers of all keys, the newest first."""
        return sorted(self._keys, reverse=True)

    def secret(self, number: int) -> bytes | None:
        """The key of this number; None if there is none."""
        return self._keys.get(number)


class MacKeys(NumberedKeys):
    """Keys of HMAC-SHA256 (RFC 2104)."""

    def mac(self, message: bytes) -> bytes:
        """The number of the key in use, in 4 bytes, and the 32 bytes of the message's HMAC."""
        return self._mac(self.newest, self._keys[self.newest], message)

    def is_valid(self, message: bytes, mac: bytes, *, newest: bool = False) -> bool:
        """Whether one of these keys made the MAC, of this message; with `newest` only the key in use counts."""
        number = key_number(mac)
        key = self.secret(number)
        if key is None or (newest and number != self.newest):
            return False
        return hmac.compare_digest(self._mac(number, key, message), mac)

    @staticmethod
    def _mac(number: int, key: bytes, message: bytes) -> bytes:
        return number.to_bytes(_NUMBER_BYTES, "big") + hmac.digest(key, message, "sha256")


def key_number(mac: bytes) -> int:
    """The number of the key that the MAC says made it."""
    return int.from_bytes(mac[:_NUMBER_BYTES], "big")


class SigningKeys(NumberedKeys):
    """Keys of Ed25519 (RFC 8032). An older one stays, so that an older checkpoint can be verified."""

    def private_key(self, number: int | None = None) -> Ed25519PrivateKey:
        """The key of this number, or the one in use.

        Raises:
            KeyError: there is none of this number.
        """
        return Ed25519PrivateKey.from_private_bytes(self._keys[number or self.newest])


@dataclass(frozen=True)
class IntegrityKeys:
    """The integrity keys of a store."""

    rows: MacKeys
    chain: MacKeys
    signing: SigningKeys

    @classmethod
    def of(cls, keys: Mapping[Purpose, Mapping[int, bytes]]) -> IntegrityKeys:
        """The keys of each purpose, which has one at least."""
        return cls(MacKeys(keys[Purpose.ROWS]), MacKeys(keys[Purpose.CHAIN]), SigningKeys(keys[Purpose.SIGNING]))


def new_secret() -> bytes:
    """A random key for any purpose."""
    return secrets.token_bytes(_KEY_BYTES)
