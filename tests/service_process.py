"""The real service in a process of its own, on a real store, with the practice servers in the test's process."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import command_line
from command_line import Command, Done
from practice_faults.fault_injection import InjectedFault
from practice_faults.provider import DEVICE_CODE_GRANT, FaultyProvider
from stepped_clock import SteppedClock
from waiting import DEADLINE_SECONDS, wait_until

from adapters import installation
from adapters.cli.service_socket import connect, socket_file
from adapters.practice import browser_user
from adapters.practice.mail_server import PracticeMailServer
from domain.ports import Reply
from infrastructure.encryption.envelope import Sealer
from infrastructure.encryption.key_file import read_key
from infrastructure.queries.audit import Finding
from infrastructure.store.claim_rows import ClaimKey
from infrastructure.tokens.escrow import EscrowEntry, _read_claim_key

SCAN, FAX, ADMIN = "scan@contoso.com", "fax@contoso.com", "admin@contoso.com"
PRINTER = "office-mfp"
SMTP = f"{PRINTER}/smtp-service"
LINKED = tuple(f"{PRINTER}/smtp-{place}" for place in ("alert", "initial", "quick", "service"))
POP = f"{PRINTER}/pop-internet-fax"

NOT_RETRIEVED, WAITING, RETRIEVED, INVALID = "Not Retrieved", "Waiting for authorisation", "Retrieved", "Invalid"

Json = dict[str, Any]

_CONFIG = """
[providers.contoso]
kind = "{kind}"
issuer = "{issuer}"
client_id = "{client_id}"
ca_file = "{ca_file}"
scopes = {scopes}
timeout = {timeout}
{more}
[mail]
ca_file = "{ca_file}"
"""
_SCOPES = {
    "microsoft": ["https://outlook.office.com/SMTP.Send"],
    "oidc": ["openid", "email", "offline_access", "mail"],
}


_HAND_OUTS = ("/access-token", "/relay/admissions", "/relay/renewals")


class Answer(NamedTuple):
    """What the service answered."""

    status: int
    body: Any
    raw: bytes


class SocketConnection(http.client.HTTPConnection):
    """Asks at the service's own socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("mailtoken", timeout=DEADLINE_SECONDS * 2)
        self._path = path

    def connect(self) -> None:
        self.sock: socket.socket = connect(self._path, DEADLINE_SECONDS * 2)


class ServiceProcess:
    """A configuration, a key and a store; the service on it from `start` to `stop` or `kill`, as often as wanted.

    `answered` sees every reply of the API but those that hand out an access token. `clock` is the service's own, which
    goes with the machine's until it is stepped.
    """

    def __init__(
        self,
        directory: Path,
        provider: FaultyProvider,
        *,
        kind: str = "microsoft",
        url: str | None = None,
        mail: PracticeMailServer | None = None,
        timeout_seconds: int = 120,
        client_id: str | None = None,
        more: str = "",
    ) -> None:
        self.directory = directory
        self.provider = provider
        self._mail = mail
        self.url = url
        self.answered: Callable[[bytes], None] = lambda _: None
        made = installation.initialise(directory, url)
        self.config = made.config
        self.log = directory / "service.log"
        self.configure(
            _CONFIG.format(
                kind=kind,
                issuer=provider.issuer,
                client_id=client_id or provider.client_id,
                ca_file=provider.ca_file,
                scopes=_SCOPES[kind],
                timeout=timeout_seconds,
                more=more,
            )
        )
        self.sealer: Sealer = read_key(made.key, {})
        self.store_id = str(self.rows("SELECT value FROM meta WHERE name = 'store_id'")[0][0])
        self.clock = SteppedClock(directory / "clock")
        self._process: Command | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.end()

    def on_new_host(self, directory: Path, url: str | None = None) -> Self:
        """The service of another host, in an empty directory that has nothing but a copy of the key."""
        directory.mkdir()
        key = directory / "mailtoken.key"
        shutil.copy(self.config.with_name("mailtoken.key"), key)
        other = copy(self)
        other.directory, other.url = directory, url
        other.config, other.log = directory / "mailtoken.toml", directory / "service.log"
        other.clock = SteppedClock(directory / "clock")
        other._process = None
        return other

    def configure(self, tables: str) -> None:
        """Add tables to the configuration, for its next start."""
        with self.config.open("a") as config:
            config.write(tables)

    # The process

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def socket(self) -> Path:
        return socket_file(self.config)

    @property
    def database(self) -> Path:
        return self.directory / "mailtoken.db"

    @property
    def escrow(self) -> Path:
        return self.directory / "escrow"

    @property
    def mail(self) -> PracticeMailServer:
        """The mail server beside it, for those that have one."""
        assert self._mail
        return self._mail

    def start(self, *, forked: bool = True) -> Self:
        """Start, and wait until it answers. `forked`: without the imports of an interpreter of its own."""
        self.launch(forked=forked)
        wait_until(self._answers, "the service answers")
        return self

    def launch(self, *, forked: bool = True) -> None:
        """Start."""
        assert self._process is None, "it runs already"
        self._process = command_line.begin(
            "serve", cwd=self.directory, log=self.log, forked=forked, clock=self.directory / "clock"
        )

    def stop(self) -> int:
        """Tell it to stop, as systemd does; its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._end(signal.SIGKILL)

    def end(self) -> None:
        """Kill it if it runs."""
        if self._process:
            self.kill()

    def _end(self, number: int) -> int:
        process, self._process = self._process, None
        assert process
        process.send_signal(number)
        try:
            return process.wait(DEADLINE_SECONDS)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(DEADLINE_SECONDS)

    def _answers(self) -> bool:
        assert self._process
        assert self._process.poll() is None, self.log.read_text()
        try:
            return self.call("GET", "/healthz").status == 200
        except Exception:
            return False

    # Commands beside it

    def run(self, *arguments: str, message: bytes | str = b"", **more: Any) -> Done:
        """Run a command to its end, as `command_line.run` does."""
        return command_line.run(*arguments, cwd=self.directory, message=message, **more)

    def done(self, *arguments: str) -> str:
        """Run a command that has to work; what it printed."""
        ended = self.run(*arguments)
        assert ended.returncode == 0, (arguments, ended.stdout, ended.stderr)
        return ended.stdout

    def begin(self, *arguments: str, **how: Any) -> Command:
        """Start a command that goes on, as `command_line.begin` does."""
        return command_line.begin(*arguments, cwd=self.directory, **how)

    # The API

    def call(self, method: str, target: str, body: object = None) -> Answer:
        """Ask; anything the service answers is an answer."""
        given = None if body is None else json.dumps(body).encode()
        headers = {} if given is None else {"Content-Type": "application/json"}
        with closing(SocketConnection(self.socket)) as connection:
            connection.request(method, target, given, headers)
            reply = connection.getresponse()
            raw = reply.read()
        if not target.partition("?")[0].endswith(_HAND_OUTS) or reply.status != 200:
            self.answered(raw)
        return Answer(reply.status, json.loads(raw) if raw else None, raw)

    def ask(self, method: str, target: str, body: object = None) -> Any:
        """Ask for what has to work; what it gave."""
        answer = self.call(method, target, body)
        assert answer.status < 300, (method, target, answer.status, answer.body)
        return answer.body

    def statuses(self, as_of: str | None = None) -> list[Json]:
        query = f"?as_of={quote(as_of)}" if as_of else ""
        found: list[Json] = self.ask("GET", f"/api/v1/status{query}")
        return found

    def status(self, profile: str = SMTP) -> Json:
        found: Json = self.ask("GET", f"{_at(profile)}/status")
        return found

    def add_printer(self, name: str = PRINTER, *, account: str = SCAN) -> str:
        """A printer with provider and account filled in for one SMTP and one POP setting; the name of the SMTP one."""
        self.ask("POST", "/api/v1/machines", {"name": name, "catalogue": "sharp-bp"})
        self.fill_in(f"{name}/smtp-service", account, sender_address=account)
        self.fill_in(f"{name}/pop-internet-fax", account)
        return f"{name}/smtp-service"

    def fill_in(self, profile: str, account: str = SCAN, **fields: str) -> None:
        if self._mail:
            pop = profile.rpartition("/")[2].startswith("pop")
            fields |= {"server": "localhost", "port": str(self.mail.pop_port if pop else self.mail.smtp_port)}
        self.ask("PATCH", _at(profile), {"provider": "contoso", "account": account, **fields})

    def request(self, profile: str = SMTP) -> Json:
        """Get Token: the code."""
        started: Json = self.ask("POST", f"{_at(profile)}/token", {})
        return started

    def sign_in(self, started: Mapping[str, Any] | None = None, account: str = SCAN) -> None:
        """Sign in as a person does, with this code or else the newest."""
        browser_user.approve(*self._code(started), account, self.provider.ca_file)

    def decline(self, started: Mapping[str, Any] | None = None, account: str = SCAN) -> None:
        """Decline as a person does, with this code or else the newest."""
        browser_user.deny(*self._code(started), account, self.provider.ca_file)

    def _code(self, started: Mapping[str, Any] | None) -> tuple[str, str]:
        """The page to enter the code on, and the code."""
        if started:
            return started["verification_uri"], started["user_code"]
        return f"{self.provider.issuer.rpartition('/')[0]}/device", self.provider.issued_user_codes[-1]

    def wait_for(self, label: str, profile: str = SMTP) -> Json:
        """Wait until the token is so; its status then."""

        def seen() -> Json | None:
            status = self.status(profile)
            return status if status["token"] == label else None

        return wait_until(seen, f"{profile} is {label}")

    def approved_but_unpolled(self, profile: str = SMTP, account: str = SCAN) -> tuple[Json, InjectedFault]:
        """Get Token and sign in while the service's poll is held at the provider: `release` lets it have the token."""
        poll = self.provider.hold(grant_type=DEVICE_CODE_GRANT, before_work=True)
        started = self.request(profile)
        poll.wait_until_held(DEADLINE_SECONDS)
        self.sign_in(started, account)
        return started, poll

    def get_token(self, profile: str = SMTP, account: str = SCAN) -> Json:
        """All of it: Get Token, sign in, Retrieved."""
        _, poll = self.approved_but_unpolled(profile, account)
        poll.release()
        return self.wait_for(RETRIEVED, profile)

    def access_token(self, profile: str = SMTP, min_ttl: int | None = None) -> Answer:
        query = "" if min_ttl is None else f"?min_ttl={min_ttl}"
        return self.call("GET", f"{_at(profile)}/access-token{query}")

    def renew(self, profile: str = SMTP) -> Answer:
        return self.call("POST", f"{_at(profile)}/token/renew")

    def delete(self, profile: str = SMTP) -> Answer:
        return self.call("DELETE", f"{_at(profile)}/token")

    def cancel(self, profile: str = SMTP) -> Answer:
        return self.call("POST", f"{_at(profile)}/token/cancel")

    def history(self, profile: str | None = None) -> list[Json]:
        query = f"?profile={profile}" if profile else ""
        found: list[Json] = self.ask("GET", f"/api/v1/audit/log{query}")
        return found

    def events(self, profile: str = SMTP) -> list[str]:
        """What happened to the token of a profile, in order."""
        return [one["event"] for one in self.history(profile) if one["aggregate"] == "Token"]

    # The store, beside or without the service

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What the store has, by SQL that both engines understand."""
        with self._connected() as connection:
            return list(connection.execute(statement).fetchall())

    def change(self, statement: str) -> None:
        """Change the store by SQL that both engines understand."""
        with self._connected() as connection:
            connection.execute(statement)
            connection.commit()

    def brought_by(self, profile: str = SMTP) -> str | None:
        """The acquisition or renewal that brought what is held for a profile."""
        joined = "token JOIN profile ON profile.token_id = token.id"
        attempt_id: str | None
        [(attempt_id,)] = self.rows(f"SELECT token.brought_by FROM {joined} WHERE profile.name = '{profile}'")
        return attempt_id

    @contextmanager
    def nobody_writes(self) -> Iterator[None]:
        """Every writer of events waits until the end of the block."""
        with self._connected() as connection:
            connection.execute("LOCK TABLE stored_events IN EXCLUSIVE MODE" if self.url else "BEGIN IMMEDIATE")
            yield
            connection.rollback()

    def stands_before_the_store(self) -> None:
        """Wait until the service wants to write, where `nobody_writes`; a file does not tell, so give it some time."""
        if self.url:
            waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            wait_until(lambda: self.rows(waiting), "it stands before the store")
        else:
            for _ in range(60):
                self.status()

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        if self.url:
            import psycopg

            with psycopg.connect(self.url) as connection:
                yield connection
            return
        with closing(sqlite3.connect(f"file:{self.database}?mode=rw", uri=True, timeout=30)) as file:
            yield file

    def findings(self) -> tuple[Finding, ...]:
        """What `audit verify` finds."""
        with installation.offline(self.config) as store:
            return store.audit.verify().findings

    def read_offline(self) -> list[Json]:
        """What `status --offline` reads."""
        with installation.offline(self.config) as store:
            return [status.as_json() for status in replace(store, _clock=self.clock).statuses()]

    def kept_replies(self) -> list[tuple[ClaimKey, Reply]]:
        """The replies that are in the escrow, opened with the service's own key."""
        return [(entry.claim_key, entry.reply) for entry in self._entries() if entry.reply]

    def _entries(self) -> Iterator[EscrowEntry]:
        for path in self.escrow.glob("*.reply"):
            if claim_key := _read_claim_key(path):
                entry = EscrowEntry(path, claim_key, self.sealer, self.store_id)
                try:
                    entry.load()
                except FileNotFoundError:
                    continue
                yield entry


def granted(reply: Reply) -> str | None:
    """The access token a reply brings, if it brings one."""
    try:
        document = json.loads(reply.body)
    except ValueError:
        return None
    return document.get("access_token") if reply.status == 200 else None


def _at(profile: str) -> str:
    return f"/api/v1/profiles/{profile}"
