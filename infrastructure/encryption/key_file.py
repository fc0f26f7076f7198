"""The key-encryption key: a file of mode 0600, a systemd credential, or the environment.

The file has a key a line in base64, the newest one first. During a rotation it has two; a process that runs reads it
again when it changes.
"""

from __future__ import annotations

import base64
import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from domain.errors import StoreRefused
from infrastructure.encryption.envelope import KEY_BYTES, Sealer
from infrastructure.new_file import new_file, replace_file


def create_key_file(path: Path) -> None:
    """Write a new random key into a file that only its owner can read.

    Raises:
        FileExistsError: there is a file already, which stays as it is.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(_lines([new_key()]))
        file.flush()
        os.fsync(file.fileno())


def read_key(key_file: Path, environment: Mapping[str, str]) -> Sealer:
    """A sealer with the key of the first source that exists: a systemd credential, the key file, the environment.

    The credential is called `mailtoken.key` (systemd.exec(5), LoadCredential=). The variable MAILTOKEN_KEY is for
    development.

    Raises:
        StoreRefused: there is no source, other users can read the key file, or its content is not a key.
    """
    credentials = environment.get("CREDENTIALS_DIRECTORY")
    credential = Path(credentials, "mailtoken.key") if credentials else None
    if credential and credential.exists():
        return _sealer(credential.read_bytes(), str(credential))
    if key_file.exists():
        if not key_file.is_file():
            raise StoreRefused("key_malformed", source=str(key_file))
        if stat.S_IMODE(key_file.stat().st_mode) & 0o077:
            raise StoreRefused("key_readable_by_others", path=str(key_file))
        return _FileSealer(key_file)
    if "MAILTOKEN_KEY" in environment:
        return _sealer(environment["MAILTOKEN_KEY"].encode(), "MAILTOKEN_KEY")
    raise StoreRefused("key_missing", path=str(key_file))


def is_key_file(sealer: Sealer) -> bool:
    """Whether the keys are those of a file, which a rotation can change."""
    return isinstance(sealer, _FileSealer)


def new_key() -> bytes:
    """A random key-encryption key."""
    return secrets.token_bytes(KEY_BYTES)


def write_keys(path: Path, keys: Sequence[bytes]) -> None:
    """Put these keys into the file, in place of those in it, which has the same owner and mode afterwards."""
    owner = path.stat()
    replace_file(path, _lines(keys), 0o600)
    os.chown(path, owner.st_uid, owner.st_gid)


def save_key(path: Path, key: bytes) -> None:
    """Write one key into a file of its own; one that is there already has this key."""
    if not path.exists():
        with new_file(path) as file:
            file.write(_lines([key]))


class _FileSealer(Sealer):
    """A sealer with the keys that are in its file now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed_at = _changed_at(path)
        super().__init__(*_keys(path.read_bytes(), str(path)))

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys of the file; those that were in it if it can't be read now."""
        changed_at = _changed_at(self._path)
        if changed_at not in (self._changed_at, None):
            with suppress(OSError, StoreRefused):
                self._keys = _keys(self._path.read_bytes(), str(self._path))
                self._changed_at = changed_at
        return self._keys


def _changed_at(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _sealer(text: bytes, source: str) -> Sealer:
    return Sealer(*_keys(text, source))


def _lines(keys: Sequence[bytes]) -> bytes:
    return b"".join(base64.b64encode(key) + b"\n" for key in keys)


def _keys(text: bytes, source: str) -> tuple[bytes, ...]:
    try:
        keys = [base64.b64decode(line, validate=True) for line in text.split()]
    except ValueError:
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise StoreRefused("key_malformed", source=source)
    return tuple(keys)
