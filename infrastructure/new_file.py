"""Writes a file that other programs see whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from domain.errors import Refused


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, of mode 0600, that gets the name `path` when it is complete and on stable storage.

    No file is ever overwritten. A device or a pipe, such as /dev/stdout, is written as it is.

    Raises:
        Refused: there is a file already.
        OSError: with `path` as the file's name: the file can't be written.
    """
    try:
        if _is_stream(path):
            with path.open("wb", buffering=0) as stream:
                yield stream
        else:
            yield from _regular_file(path)
    except FileExistsError:
        raise Refused("file_exists", path=str(path)) from None
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


def replace_file(path: Path, content: bytes, mode: int) -> None:
    """Write a file of this mode to stable storage, in the place of the one that is there; readers see one or the other.

    Raises:
        OSError: with `path` as the file's name: the file can't be written, and is as it was.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        part.replace(path)
        sync(path.parent)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


def sync(path: Path) -> None:
    """Write a file, or the names in a directory, to stable storage."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_stream(path: Path) -> bool:
    if not os.path.lexists(path):
        return False
    mode = path.stat().st_mode
    if not (stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)):
        raise FileExistsError
    return True


def _regular_file(path: Path) -> Iterator[IO[bytes]]:
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a new name, never replaces a file that somebody made meanwhile.
        os.link(part, path)
    finally:
        part.unlink(missing_ok=True)
    sync(path.parent)
