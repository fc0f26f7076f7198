"""A store that grows: what an operator asks, in whole processes, of 1,000, 10,000 and 100,000 settings.

The stores are equal but for their size: machines with seven settings, each token Retrieved. Each question is asked of
the smallest store as well, in turns, so a ratio of 1 says that the number of settings does not matter.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from adapters import installation
from adapters.cli.http_client import ServiceConnection
from adapters.cli.service_socket import CommandError, socket_file
from bench.material import Material, credential, obtain
from bench.rounds import Figure, Size, figure
from domain.catalogue import catalogue
from domain.smtp_group import update_in_concert
from domain.token import Token
from infrastructure.encryption.key_file import read_key
from infrastructure.fleet.changes import FleetChanges
from infrastructure.store.event_log import AnyAggregate, EventLog
from infrastructure.store.open import open_store
from infrastructure.store.sqlite import SqliteStore
from infrastructure.store.store import UnitOfWork
from infrastructure.store.vault import Vault, VaultRow

_AT_ONCE = 200
"""Machines that are saved at once."""
_APART = timedelta(seconds=0.1)
_PATIENCE_SECONDS = 600.0
_PROVIDER = """
[providers.contoso]
kind = "oidc"
issuer = "https://localhost:1/"
client_id = "bench"
"""
_ASKED: Sequence[tuple[str, Sequence[str], bool]] = (
    ("status of one", ("status", "NAME"), True),
    ("status of one as of an instant", ("status", "NAME", "--as-of", "INSTANT"), True),
    ("token show", ("token", "show", "NAME"), True),
    ("audit log of one", ("audit", "log", "NAME"), True),
    ("status --check", ("status", "--check"), False),
    ("status --check --offline", ("status", "--check", "--offline"), False),
    ("status --json", ("status", "--json"), False),
    ("audit verify", ("audit", "verify"), False),
)
"""Name and arguments of each command, and whether it asks about one setting."""


@dataclass(frozen=True)
class _Site:
    """An installation with so many settings, and the names and the instants that are asked for."""

    config: Path
    settings: int
    names: Sequence[str]
    instant: datetime


def growth(folder: Path, size: Size) -> Iterator[Figure]:
    """For each size but the smallest, beside the smallest."""
    smallest, *larger = (_site(folder / str(settings), settings) for settings in size.growth_settings)
    for site in larger:
        yield from _beside(site, smallest, size.growth_rounds)


def _beside(site: _Site, smallest: _Site, rounds: int) -> Iterator[Figure]:
    def measured(name: str, pairs: Sequence[tuple[float, float]], unit: str, *, one: bool, limited_by: str) -> Figure:
        return figure(
            f"{name}, {site.settings:,} settings",
            pairs,
            peer_name=f"the same with {smallest.settings:,} settings",
            unit=unit,
            more_is_better=False,
            target=1.5 if one else None,
            limited_by=limited_by,
        )

    starts = [(_start_once(site), _start_once(smallest)) for _ in range(rounds)]
    seconds = [(ours * 1000, peer * 1000) for (ours, _), (peer, _) in starts]
    yield measured("start to first answer", seconds, "ms", one=False, limited_by="the imports")
    resident = [(ours, peer) for (_, ours), (_, peer) in starts]
    yield measured("resident after the start", resident, "MB", one=False, limited_by="the imports")
    with _running(site), _running(smallest):
        for name, arguments, one in _ASKED:
            times = 1 if not one and site.settings > 10_000 else rounds
            _run(site, arguments, 0), _run(smallest, arguments, 0)
            pairs = [(_run(site, arguments, number), _run(smallest, arguments, number)) for number in range(times + 1)]
            yield measured(
                name, pairs, "ms", one=one, limited_by="the start of Python" if one else "what is read of each setting"
            )


def _run(site: _Site, arguments: Sequence[str], number: int) -> float:
    """The milliseconds that a command takes."""
    given = {"NAME": site.names[number % len(site.names)], "INSTANT": site.instant.isoformat()}
    command = [given.get(argument, argument) for argument in arguments]
    started = time.perf_counter()
    done = subprocess.run(
        [_mailtoken(), "--config", str(site.config), *command],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    return (time.perf_counter() - started) * 1000


def _mailtoken() -> str:
    return str(Path(sys.executable).with_name("mailtoken"))


# The service


def _start_once(site: _Site) -> tuple[float, float]:
    """The seconds until the service answers, and the megabytes that are resident then."""
    started = time.perf_counter()
    with _running(site) as process:
        return time.perf_counter() - started, _resident_megabytes(process.pid)


@contextmanager
def _running(site: _Site) -> Iterator[subprocess.Popen[bytes]]:
    with (site.config.parent / "service.log").open("ab") as log:
        process = subprocess.Popen(
            [_mailtoken(), "--config", str(site.config), "serve"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        client, deadline = ServiceConnection(socket_file(site.config)), time.monotonic() + _PATIENCE_SECONDS
        while not _answers(client):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the service does not answer: see {site.config.parent / 'service.log'}")
            time.sleep(0.01)
        yield process
    finally:
        process.terminate()
        process.wait()


def _resident_megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def _answers(client: ServiceConnection) -> bool:
    try:
        client.get("/healthz")
    except CommandError:
        return False
    return True


# The store


def _site(directory: Path, settings: int) -> _Site:
    directory.mkdir(parents=True)
    made = installation.initialise(directory)
    with made.config.open("a") as config:
        config.write(_PROVIDER)
    machines, now = -(-settings // len(catalogue("sharp-bp").settings)), datetime.now(UTC)
    with closing(SqliteStore(directory / "mailtoken.db")) as store:
        sealer = read_key(made.key, {})
        material = Material(store, EventLog(store), Vault(sealer, open_store(store, sealer)))
        _fill(material, machines, now)
    names = [f"machine-{number}/smtp-service" for number in (machines // 2, machines // 3, machines // 5)]
    return _Site(made.config, settings, names, now - _APART * (machines // 3))


def _fill(material: Material, machines: int, now: datetime) -> None:
    """Add so many machines, each at an instant of its own; many are saved at once."""
    for begin in range(0, machines, _AT_ONCE):
        aggregates, put = list[AnyAggregate](), list[VaultRow]()
        for number in range(begin, min(begin + _AT_ONCE, machines)):
            at = now - _APART * (machines - number)
            changes = FleetChanges(material.log, "administrator:root", at)
            profiles = changes.add_machine(f"machine-{number}", catalogue("sharp-bp"))
            aggregates += changes._loaded.values()
            for token in (one for one in changes._loaded.values() if isinstance(one, Token)):
                update_in_concert(obtain(token, at), [one for one in profiles if one.state.token_id == token.id])
                put.append(material.vault.seal_credential(token.id, 1, credential(at)))
        material.log.save(*aggregates, unit_of_work=UnitOfWork(put=put))
