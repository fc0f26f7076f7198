"""The key-encryption key: a file of mode 0600, a systemd credential, or the environment."""

from __future__ import annotations

import base64
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from domain.errors import StoreRefused
from infrastructure.encryption.envelope import _KEY_BYTES, Sealer


def create_key_file(path: Path) -> None:
    """Write a new random key into a file that only its owner can read.

    Raises:
        FileExistsError: there is a file already, which stays as it is.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(secrets.token_bytes(_KEY_BYTES)) + b"\n")
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
        return _sealer(key_file.read_bytes(), str(key_file))
    if "MAILTOKEN_KEY" in environment:
        return _sealer(environment["MAILTOKEN_KEY"].encode(), "MAILTOKEN_KEY")
    raise StoreRefused("key_missing", path=str(key_file))


def _sealer(text: bytes, source: str) -> Sealer:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise StoreRefused("key_malformed", source=source)
    return Sealer(key)
