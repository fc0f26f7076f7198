"""The escrow: every reply of a token endpoint is here, sealed and on stable storage, before anything parses it.

A code, a device code and a rotated refresh token are spent at first use, so the reply may be all there is. One file
for each request under way; room for the reply is taken before the request leaves. A file with a reply is read again
after a crash; one without says only that a request was under way.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from domain.errors import StorageFull, Unreachable, VaultDamaged
from domain.ports import Reply
from infrastructure.clock import instant_text, read_instant
from infrastructure.sealing import Place, Sealed, Sealer

_HEADER_BYTES = 1024
_DOUBTS_KEPT = 3
_ROOM_BYTES = 512 * 1024
"""Room for the header and the largest reply the HTTP client accepts, sealed and in base64."""


@dataclass(frozen=True)
class Work:
    """One request to a token endpoint, known by its attempt id; or a notice to people, which is claimed like one.

    `kind` is "acquisition", "renewal" or "notice CHANNEL". `generation` is the attempt's ordinal for the first, the
    parent generation for the second; with the kind it names the claim. `provider` and `account` are whom it asks for
    whom, if that is known: sealed with the reply, as the token may be deleted when it is read.
    """

    kind: str
    token_id: UUID
    attempt_id: str
    generation: int
    provider: str | None = None
    account: str | None = None


class Slot:
    """The place of one reply: a `domain.ports.Exchange`."""

    def __init__(self, path: Path, work: Work, sealer: Sealer, store_id: str) -> None:
        self.path = path
        self.work = work
        self._sealer = sealer
        self._place = Place(store_id, str(work.token_id), f"reply {work.attempt_id}", work.generation)
        self._reply: Reply | None = None

    @property
    def reply(self) -> Reply | None:
        """The reply that is kept, if one is."""
        return self._reply

    def keep(self, reply: Reply) -> None:
        """Seal the reply and return when it is on stable storage.

        Raises:
            Unreachable: the storage fails; what there is of the reply is left to be read again.
        """
        value = {
            "status": reply.status,
            "headers": reply.headers,
            "body": base64.b64encode(reply.body).decode(),
            "received_at": instant_text(reply.received_at),
            "provider": self.work.provider,
            "account": self.work.account,
        }
        sealed = self._sealer.seal(json.dumps(value).encode(), self._place)
        # Known before it is written: a reply that may be on the disk is not wiped as none, whatever goes wrong now.
        self._reply = reply
        try:
            with self.path.open("r+b") as file:
                file.seek(_HEADER_BYTES)
                file.write(sealed.as_text().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            _sync_directory(self.path.parent)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise Unreachable(f"storage failing ({reason}): a reply is not safe in {self.path.parent}") from None

    def load(self) -> None:
        """Read the reply that was kept; without a whole one this stays as it is."""
        try:
            line = self.path.read_bytes()[_HEADER_BYTES:].split(b"\n", 1)[0]
        except FileNotFoundError:  # somebody else has read and wiped it in between
            return
        # A torn write is not JSON or does not open: then the reply never was here.
        with contextlib.suppress(ValueError, KeyError, VaultDamaged):
            sealed = Sealed.of_text(line)
            value = json.loads(self._sealer.open(sealed, self._place))
            self._reply = Reply(
                value["status"],
                tuple((name, content) for name, content in value["headers"]),
                base64.b64decode(value["body"]),
                read_instant(value["received_at"]),
            )
            self.work = replace(self.work, provider=value.get("provider"), account=value.get("account"))


class Escrow:
    """A folder of this node with one file for each request under way."""

    def __init__(self, directory: Path, sealer: Sealer, store_id: str) -> None:
        self._directory = directory
        self._sealer = sealer
        self._store_id = store_id
        self._under_way: set[Path] = set()
        self._lock = threading.Lock()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def reserve(self, work: Work) -> Slot:
        """Take room for the reply to `work`, before it is asked for.

        Raises:
            StorageFull: there is none; don't ask.
        """
        # A name that is used once: an earlier reply to the same attempt may still be here to be read.
        path = self._directory / f"{work.attempt_id}-{secrets.token_hex(4)}.reply"
        # Before the file is there: nobody may take it for one that was left over.
        self._take(path)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, _ROOM_BYTES)
                os.pwrite(descriptor, _header(work), 0)
            finally:
                os.close(descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            self._let_go(path)
            reason = error.strerror or type(error).__name__
            raise StorageFull(f"no space to store a new token ({reason}): free space in {path.parent}") from None
        return Slot(path, work, self._sealer, self._store_id)

    def clear(self, slot: Slot) -> None:
        """Wipe the slot: its reply is in the vault, or says nothing worth keeping."""
        slot.path.unlink(missing_ok=True)
        self._let_go(slot.path)

    def leave(self, slot: Slot) -> None:
        """Leave the slot to `left_over`: its reply could not be stored or understood yet."""
        self._let_go(slot.path)

    def set_aside(self, slot: Slot) -> None:
        """Keep a reply that makes no sense for a person to look at, until its token is renewed or deleted.

        The last few of each token are enough to look at; a provider that talks nonsense does so for long.
        """
        with contextlib.suppress(FileNotFoundError):
            slot.path.rename(slot.path.with_suffix(".doubt"))
        self._let_go(slot.path)
        for path in sorted(self._of(slot.work.token_id, "*.doubt"), key=_modified)[:-_DOUBTS_KEPT]:
            path.unlink(missing_ok=True)

    def note_lost(self, work: Work) -> None:
        """Remember that a request for this generation was under way when its process died: its reply may be lost."""
        if not self.was_lost(work):
            (self._directory / f"{work.attempt_id}.lost").write_bytes(_header(work))

    def was_lost(self, work: Work) -> bool:
        """Whether a reply to an earlier request for the same generation may be lost."""
        return any(self._lost(work))

    def wipe_lost(self, work: Work) -> None:
        """Forget that."""
        for path in self._lost(work):
            path.unlink(missing_ok=True)

    def _lost(self, work: Work) -> Iterator[Path]:
        for path in self._directory.glob("*.lost"):
            lost = _read_work(path)
            if lost and (lost.kind, lost.token_id, lost.generation) == (work.kind, work.token_id, work.generation):
                yield path

    def tokens(self) -> set[UUID]:
        """The tokens that have something left over."""
        return {work.token_id for path in self._waiting() if (work := _read_work(path))}

    def has_reply_to(self, work: Work) -> bool:
        """Whether something of this attempt waits here to be read."""
        return any(self._directory.glob(f"{work.attempt_id}-*.reply"))

    def left_over(self, token_id: UUID | None = None) -> Iterator[Slot]:
        """The slots nobody works on, of one token or all, oldest first: of an earlier run, or left.

        Whoever takes one must `clear`, `leave` or `set_aside` it.
        """
        for path in sorted(self._waiting(), key=_modified):
            work = _read_work(path)
            if work is None:
                path.unlink(missing_ok=True)
            elif token_id in (None, work.token_id) and self._take(path):
                slot = Slot(path, work, self._sealer, self._store_id)
                slot.load()
                yield slot

    def wipe_traces(self, token_id: UUID) -> None:
        """Forget the replies that were set aside for this token, and those that may be lost."""
        for path in (*self._of(token_id, "*.doubt"), *self._of(token_id, "*.lost")):
            path.unlink(missing_ok=True)

    def _of(self, token_id: UUID, pattern: str) -> Iterator[Path]:
        for path in self._directory.glob(pattern):
            work = _read_work(path)
            if work is None or work.token_id == token_id:
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


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _header(work: Work) -> bytes:
    header = {
        "kind": work.kind,
        "token_id": str(work.token_id),
        "attempt_id": work.attempt_id,
        "generation": work.generation,
    }
    return json.dumps(header).encode().ljust(_HEADER_BYTES)


def _read_work(path: Path) -> Work | None:
    try:
        with path.open("rb") as file:
            header: dict[str, Any] = json.loads(file.read(_HEADER_BYTES))
        return Work(header["kind"], UUID(header["token_id"]), header["attempt_id"], header["generation"])
    except (OSError, ValueError, KeyError):
        return None


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
