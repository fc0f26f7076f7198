"""Stops, restarts and replaces a private PostgreSQL server, as its operator does."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg
from postgres import _USER, PostgresServer, _account, _binaries, _reachable


@dataclass(frozen=True)
class ControlledServer:
    """The server whose data is in `data` and whose socket is in `directory`, by the number `port`."""

    directory: Path
    data: Path
    port: int = 5432

    @classmethod
    def of(cls, server: PostgresServer) -> ControlledServer:
        return cls(Path(server.directory), Path(server.directory, "data"))

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{_USER}@/{database}?host={quote(str(self.directory), safe='')}&port={self.port}"

    def run(self, *statements: str, database: str = "postgres") -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def set(self, **settings: str) -> None:
        """Change settings that a running server reads again."""
        self.run(*(f"ALTER SYSTEM SET {name} = '{value}'" for name, value in settings.items()))
        self.run("SELECT pg_reload_conf()")

    def stop(self) -> None:
        """Stop as a server that is turned off: no session ends in order."""
        self._control("stop", "--mode=immediate")

    def start(self) -> None:
        self._control("start", f"--log={self.directory / f'log-{self.port}'}")

    def promote(self) -> None:
        self._control("promote")

    @contextmanager
    def standby(self, port: int) -> Iterator[ControlledServer]:
        """A server that follows this one at another address, and is read-only until it is promoted."""
        copy = ControlledServer(self.directory, self.directory / f"data-{port}", port)
        address = f"host={self.directory} port={self.port} user={_USER}"
        self._as_account("pg_basebackup", f"--pgdata={copy.data}", f"--dbname={address}", "-R", "--checkpoint=fast")
        with (copy.data / "postgresql.conf").open("a") as file:
            file.write(f"port = {port}\n")
        copy.start()
        try:
            yield copy
        finally:
            copy.stop()

    def _control(self, action: str, *options: str) -> None:
        self._as_account("pg_ctl", action, "--wait", f"--pgdata={self.data}", *options)

    def _as_account(self, program: str, *arguments: str) -> None:
        account = _account()
        binaries = _reachable(_binaries(), self.directory, account)
        with (self.directory / "output").open("a") as output:
            subprocess.run(
                [binaries / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                check=True,
                **account,
            )
