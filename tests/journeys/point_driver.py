"""A process of its own that does one thing to a token, and kills itself at the point of it that it is told.

The service is wired as it always is; only the claims, the escrow and the event log it is wired with are watched at what
they offer to others, and are otherwise their own selves. `start` forks it from a process that has imported the program.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from adapters import bootstrap, store_access
from domain.errors import Failed
from domain.ports import Reply
from infrastructure.config.load import load_config
from infrastructure.encryption.key_file import read_key
from infrastructure.service import Service
from infrastructure.store.claim_rows import ClaimKey
from infrastructure.store.event_log import EventLog
from infrastructure.store.store import UnitOfWork
from infrastructure.store.vault import Vault
from infrastructure.tokens.claims import ClaimResult, Claims
from infrastructure.tokens.escrow import Escrow, EscrowEntry

PROFILE = "office-mfp/smtp-service"
DEADLINE_SECONDS = 120
_HALF_A_REPLY_BYTES = 1024 + 512
_PRELOADED = ("adapters.bootstrap", "adapters.providers.factory", "infrastructure.store.postgres", "pytest")
_PR_SET_PDEATHSIG = 1

T = TypeVar("T")


class Point(Enum):
    """Where it is killed; in flight somebody else has to do it."""

    BEFORE_CLAIM = "before the claim"
    CLAIMED = "after the claim"
    ROOM_TAKEN = "room taken"
    IN_FLIGHT = "in flight"
    RECEIVED = "reply received"
    HALF_WRITTEN = "reply half written"
    ESCROW_WRITTEN = "escrow written"
    IN_TRANSACTION = "in the transaction"
    BEFORE_COMMIT = "before the commit"
    COMMITTED = "after the commit"
    BEFORE_WIPE = "before the escrow is wiped"


@dataclass(frozen=True)
class Job:
    """What to do: `work` is "renewal", "acquisition", or "recovery", which is what every start does first.

    At `point` it says that it is there, and is killed or else goes on.
    """

    config: Path
    work: str
    point: Point | None = None
    killed: bool = True


@dataclass(frozen=True)
class Seen:
    """What there is when everything is settled. `recovered` is the generation that was held before anything was asked.

    `said` is what became of the renewal that was tried once more, if one was.
    """

    recovered: int | None
    generation: int | None
    label: str
    reason: str | None
    said: str | None
    access_token: str | None
    refresh_token: str | None


_ASKING = threading.Lock()
"""Starting a process asks how all others ended, and two threads that ask at once take the answer from each other."""


class Process:
    """A process that runs one of the drivers' functions, and says things through its pipe."""

    def __init__(self, process: BaseProcess, pipe: Connection, log: Path) -> None:
        self._process = process
        self.pipe = pipe
        self.log = log

    def hear(self) -> Any:
        """What it says next."""
        assert self.pipe.poll(DEADLINE_SECONDS), f"it says nothing: {self._said()}"
        try:
            return self.pipe.recv()
        except EOFError:
            raise AssertionError(f"it has ended: {self._said()}") from None

    def kill(self) -> None:
        """End it at once."""
        with _ASKING:
            self._process.kill()

    def ended(self) -> int | None:
        """Wait for its end; the exit status, negative for a signal."""
        wait([self._process.sentinel], DEADLINE_SECONDS)
        with _ASKING:
            return self._process.exitcode

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.ended()
        with _ASKING:
            self._process.close()
        self.pipe.close()

    def _said(self) -> str:
        return self.log.read_text() if self.log.exists() else "nothing"


def start(work: Callable[..., None], log: Path, *arguments: Any) -> Process:
    """Call `work` in a new process, with a pipe to here behind its arguments; what it logs goes to `log`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    ours, theirs = context.Pipe()
    process = context.Process(target=_begin, args=(work, log, *arguments, theirs), daemon=True)
    with _ASKING:
        process.start()
    theirs.close()
    return Process(process, ours, log)


def _begin(work: Callable[..., None], log: Path, *arguments: Any) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    # What would send the service elsewhere.
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("MAILTOKEN_")]:
        del os.environ[name]
    work(*arguments)


def drive(job: Job, pipe: Connection) -> None:
    """Do it; killed at its point, it has said that it got there, else it says what it saw."""
    _watch(_Trap(job, pipe))
    with bootstrap.open_service(load_config(job.config)) as service:
        recovered = _generation(service)
        said = _WORKS[job.work](service)
        if job.point is None:
            pipe.send(_seen(service, recovered, said))


def _renew(service: Service) -> str:
    try:
        return service.tokens.renew(PROFILE, "administrator").token.status.value
    except Failed as failed:
        return str(failed)


def _poll(service: Service) -> None:
    wait = service.tokens.poll(service.tokens.status(PROFILE).profile.token_id)
    while wait is not None:
        # Never set: it waits for as long as the provider asked for.
        threading.Event().wait(wait)
        wait = service.tokens.poll(service.tokens.status(PROFILE).profile.token_id)


def _renew_once_more(service: Service) -> str | None:
    """What somebody does who finds the old generation there."""
    return _renew(service) if _generation(service) == 1 else None


_WORKS: dict[str, Callable[[Service], str | None]] = {
    "renewal": _renew,
    "acquisition": _poll,
    "recovery": lambda _: None,
    "after a renewal": _renew_once_more,
    "after an acquisition": _poll,
}


def _generation(service: Service) -> int | None:
    credential = service.tokens.status(PROFILE).token.credential
    return credential.number if credential else None


def _seen(service: Service, recovered: int | None, said: str | None) -> Seen:
    status, config = service.tokens.status(PROFILE), service.config
    label, reason = status.token.status.value, status.token.reason
    access_token = refresh_token = None
    if label == "Retrieved":
        assert status.token.credential
        access_token = service.tokens.access_token(PROFILE, None, "client").credential.access_token.reveal()
        with service.events.store.reading() as query:
            [row] = query.rows("SELECT value FROM meta WHERE name = 'store_id'")
            vault = Vault(read_key(config.path(config.store.key_file), os.environ), row["value"])
            held = vault.credential(query, status.profile.token_id, status.token.credential.number)
        refresh_token = held.refresh_token.reveal() if held.refresh_token else None
    generation = _generation(service)
    return Seen(recovered, generation, label, reason and reason.value, said, access_token, refresh_token)


# Watched


class _Trap:
    """Tells when this process gets to the point that is wanted, and kills it."""

    def __init__(self, job: Job, pipe: Connection) -> None:
        self.wanted = job.point
        self._killed = job.killed
        self._pipe = pipe

    def reach(self, point: Point) -> None:
        if point is self.wanted:
            self._pipe.send(point)
            if self._killed:
                os.kill(os.getpid(), signal.SIGKILL)


def _watch(trap: _Trap) -> None:
    """Wire the service, in this process alone, with collaborators that tell where it is."""
    watched = ((bootstrap, "Claims", _Claims), (bootstrap, "Escrow", _Escrow), (store_access, "EventLog", _EventLog))
    for module, name, kind in watched:
        setattr(module, name, partial(_made, kind, trap))


def _made(kind: type[Any], trap: _Trap, *arguments: Any) -> Any:
    one = kind(*arguments)
    one.trap = trap
    return one


class _Claims(Claims):
    trap: _Trap

    def take(self, claim_key: ClaimKey) -> ClaimResult:
        self.trap.reach(Point.BEFORE_CLAIM)
        taken = super().take(claim_key)
        self.trap.reach(Point.CLAIMED)
        return taken


class _Entry(EscrowEntry):
    trap: _Trap

    def keep(self, reply: Reply) -> None:
        self.trap.reach(Point.RECEIVED)
        super().keep(reply)
        if self.trap.wanted is Point.HALF_WRITTEN:
            content = self.path.read_bytes()
            self.path.write_bytes(content[:_HALF_A_REPLY_BYTES].ljust(len(content), b"\0"))
            self.trap.reach(Point.HALF_WRITTEN)
        self.trap.reach(Point.ESCROW_WRITTEN)


class _Escrow(Escrow):
    trap: _Trap

    def reserve(self, claim_key: ClaimKey) -> EscrowEntry:
        entry = super().reserve(claim_key)
        self.trap.reach(Point.ROOM_TAKEN)
        watched = _Entry(entry.path, entry.claim_key, self._sealer, self._store_id)
        watched.trap = self.trap
        return watched

    def clear(self, entry: EscrowEntry) -> None:
        self.trap.reach(Point.BEFORE_WIPE)
        super().clear(entry)


class _EventLog(EventLog):
    trap: _Trap

    def save(self, *aggregates: Any, unit_of_work: UnitOfWork | None = None) -> None:
        # The recorder takes what is beside the events in its transaction: first the new rows of the vault, when the
        # events are in and the old generation is dropped, and the claim when everything else is in.
        unit_of_work = unit_of_work or UnitOfWork()
        put = _Watched(unit_of_work.put, partial(self.trap.reach, Point.IN_TRANSACTION))
        release = _Watched(unit_of_work.release, partial(self.trap.reach, Point.BEFORE_COMMIT))
        super().save(*aggregates, unit_of_work=replace(unit_of_work, put=put, release=release))
        self.trap.reach(Point.COMMITTED)


class _Watched(Sequence[T]):
    def __init__(self, items: Sequence[T], reach: Callable[[], None]) -> None:
        self._items = items
        self._reach = reach

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        self._reach()
        return iter(self._items)
