"""The escrow: every reply of a token endpoint is sealed here on stable storage before it is parsed.

A code, a device code and a rotated refresh token can be used once only, so a lost reply would be a lost grant. Each
request under way has a file, whose space is allocated before the request is sent. After a crash, a file with a reply
is read again, and a file without a reply shows that a request was under way.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import secrets
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from domain.errors import StorageFull, Unreachable, VaultDamaged
from domain.ports import Reply
from infrastructure.clock import instant_text, read_instant
from infrastructure.encryption.envelope import Place, Sealed, Sealer
from infrastructure.new_file import sync
from infrastructure.store.claim_rows import ClaimKey
from infrastructure.tokens.log_memory import LogMemory

_HEADER_BYTES = 1024
_DOUBTS_KEPT = 3
_ROOM_BYTES = 512 * 1024
"""The size of a file: the header and the largest reply that the HTTP client accepts, sealed and in base64."""


class EscrowEntry:
    """A file of the escrow, with room for a reply. It implements the domain's port `Exchange`."""

    def __init__(self, path: Path, claim_key: ClaimKey, sealer: Sealer, store_id: str) -> None:
        self.path = path
        self.claim_key = claim_key
        self._sealer = sealer
        self._place = Place(store_id, str(claim_key.subject_id), f"reply {claim_key.attempt_id}", claim_key.generation)
        self._reply: Reply | None = None

    @property
    def reply(self) -> Reply | None:
        """The kept reply; None if no reply is kept."""
        return self._reply

    def keep(self, reply: Reply) -> None:
        """Seal the reply and write it to stable storage before returning.

        Raises:
            Unreachable: the storage fails; the part of the reply that was written is left to be read again.
        """
        value = {
            "status": reply.status,
            "headers": reply.headers,
            "body": base64.b64encode(reply.body).decode(),
            "received_at": instant_text(reply.received_at),
            "provider": self.claim_key.provider,
            "account": self.claim_key.account,
        }
        sealed = self._sealer.seal(json.dumps(value).encode(), self._place)
        # Set before the write: if the write fails midway, the entry must not be cleared as an entry without a reply.
        self._reply = reply
        try:
            with self.path.open("r+b") as file:
                file.seek(_HEADER_BYTES)
                file.write(sealed.as_text().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            sync(self.path.parent)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise Unreachable("reply_not_safe", reason=reason, directory=str(self.path.parent)) from None

    def load(self) -> None:
        """Read the reply from the file, if the file has a complete reply."""
        try:
            line = self.path.read_bytes()[_HEADER_BYTES:].split(b"\n", 1)[0]
        except FileNotFoundError:  # another process has read and wiped it in between
            return
        # An incomplete write is not JSON or does not open: then there is no reply.
        with contextlib.suppress(ValueError, KeyError, TypeError, VaultDamaged):
            sealed = Sealed.of_text(line)
            value = json.loads(self._sealer.open(sealed, self._place))
            self._reply = Reply(
                value["status"],
                tuple((name, content) for name, content in value["headers"]),
                base64.b64decode(value["body"]),
                read_instant(value["received_at"]),
            )
            self.claim_key = replace(self.claim_key, provider=value.get("provider"), account=value.get("account"))


class Escrow:
    """A folder of this node with a file for each request under way."""

    def __init__(self, directory: Path, sealer: Sealer, store_id: str) -> None:
        self._directory = directory
        self._sealer = sealer
        self._store_id = store_id
        self._under_way: set[Path] = set()
        self._lock = threading.Lock()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def log_memory(self) -> LogMemory:
        """This node's memory of the log, beside the folder."""
        return LogMemory(self._directory, self._store_id)

    def check_room(self) -> None:
        """Check that a file could be made.

        Raises:
            StorageFull: there is no space, or the folder is not writable.
        """
        try:
            if shutil.disk_usage(self._directory).free < _ROOM_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if not os.access(self._directory, os.W_OK | os.X_OK):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise StorageFull("no_space_in_escrow", reason=error.strerror, directory=str(self._directory)) from None

    def reserve(self, claim_key: ClaimKey) -> EscrowEntry:
        """Allocate the space for the reply to a request, before the request is made.

        Raises:
            StorageFull: there is no space, so the request must not be made.
        """
        # The name is unique: an earlier reply to the same attempt may still be waiting here.
        path = self._directory / f"{claim_key.attempt_id}-{secrets.token_hex(4)}.reply"
        # Marked before the file is made: another thread must not take the file for a leftover.
        self._take(path)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, _ROOM_BYTES)
                os.pwrite(descriptor, _header(claim_key), 0)
            finally:
                os.close(descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            self._let_go(path)
            reason = error.strerror or type(error).__name__
            raise StorageFull("no_space_in_escrow", reason=reason, directory=str(path.parent)) from None
        return EscrowEntry(path, claim_key, self._sealer, self._store_id)

    def clear(self, entry: EscrowEntry) -> None:
        """Remove an entry whose reply is in the vault or is not worth keeping."""
        entry.path.unlink(missing_ok=True)
        self._let_go(entry.path)

    def leave(self, entry: EscrowEntry) -> None:
        """Leave the entry for `left_over`, as its reply could not be stored or understood yet."""
        self._let_go(entry.path)

    def set_aside(self, entry: EscrowEntry) -> None:
        """Keep a reply that can't be understood, for a person to examine, until its token is renewed or deleted.

        Only the last few of each token are kept, as a faulty provider may send many such replies.
        """
        with contextlib.suppress(FileNotFoundError):
            entry.path.rename(entry.path.with_suffix(".doubt"))
        self._let_go(entry.path)
        for path in sorted(self._of(entry.claim_key.subject_id, "*.doubt"), key=_modified)[:-_DOUBTS_KEPT]:
            path.unlink(missing_ok=True)

    def note_lost(self, claim_key: ClaimKey) -> None:
        """Note that the reply to a request for this generation may be lost: its process died, or the reply was cut."""
        if not any(self._files_of(claim_key, "*.lost")):
            path = self._directory / f"{claim_key.attempt_id}.lost"
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(_header(claim_key))

    def was_lost(self, claim_key: ClaimKey) -> bool:
        """Whether a reply to an earlier request for the same generation may be lost, or could not be understood."""
        return any(self._files_of(claim_key, "*.lost")) or any(self._files_of(claim_key, "*.doubt"))

    def wipe_lost(self, claim_key: ClaimKey) -> None:
        """Remove the notes of lost replies for this generation."""
        for path in self._files_of(claim_key, "*.lost"):
            path.unlink(missing_ok=True)

    def _files_of(self, claim_key: ClaimKey, pattern: str) -> Iterator[Path]:
        """The files of requests for the same generation."""
        for path in self._directory.glob(pattern):
            found = _read_claim_key(path)
            if found and (found.kind, found.subject_id, found.generation) == (
                claim_key.kind,
                claim_key.subject_id,
                claim_key.generation,
            ):
                yield path

    def tokens(self) -> set[UUID]:
        """The tokens with leftover entries."""
        return {claim_key.subject_id for path in self._waiting() if (claim_key := _read_claim_key(path))}

    def has_reply_to(self, claim_key: ClaimKey) -> bool:
        """Whether the escrow has an entry of this attempt."""
        return any(self._directory.glob(f"{claim_key.attempt_id}-*.reply"))

    def left_over(self, token_id: UUID | None = None) -> Iterator[EscrowEntry]:
        """The entries of an earlier run and the entries that were left, of a token or of all tokens, oldest first.

        The caller must `clear`, `leave` or `set_aside` each entry.
        """
        for path in sorted(self._waiting(), key=_modified):
            claim_key = _read_claim_key(path)
            if claim_key is None:
                path.unlink(missing_ok=True)
            elif token_id in (None, claim_key.subject_id) and self._take(path):
                entry = EscrowEntry(path, claim_key, self._sealer, self._store_id)
                entry.load()
                yield entry

    def wipe_traces(self, token_id: UUID) -> None:
        """Remove the replies set aside for this token and the notes of lost replies."""
        for path in (*self._of(token_id, "*.doubt"), *self._of(token_id, "*.lost")):
            path.unlink(missing_ok=True)

    def _of(self, token_id: UUID, pattern: str) -> Iterator[Path]:
        for path in self._directory.glob(pattern):
            claim_key = _read_claim_key(path)
            if claim_key is None or claim_key.subject_id == token_id:
                yield path

    def _waiting(self) -> set[Path]:
        found = set(self._directory.glob("*.reply"))
        with self._lock:
            return found - self._under_way

    def _take(self, path: Path) -> bool:
        with self._lock:
            is_free = path not in self._under_way
            self._under_way.add(path)
            return is_free

    def _let_go(self, path: Path) -> None:
        with self._lock:
            self._under_way.discard(path)


def replies_by_key(directory: Path) -> Counter[str]:
    """The number of kept replies in the escrow at `directory`, by the id of the key that opens them."""
    counts = Counter[str]()
    for pattern in ("*.reply", "*.doubt"):
        for path in directory.glob(pattern):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                counts[Sealed.of_text(path.read_bytes()[_HEADER_BYTES:].split(b"\n", 1)[0]).key_id] += 1
    return counts


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _header(claim_key: ClaimKey) -> bytes:
    header = {
        "kind": claim_key.kind,
        "token_id": str(claim_key.subject_id),
        "attempt_id": claim_key.attempt_id,
        "generation": claim_key.generation,
    }
    return json.dumps(header).encode().ljust(_HEADER_BYTES)


def _read_claim_key(path: Path) -> ClaimKey | None:
    try:
        with path.open("rb") as file:
            header: dict[str, Any] = json.loads(file.read(_HEADER_BYTES))
        return ClaimKey(header["kind"], UUID(header["token_id"]), header["attempt_id"], header["generation"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
