"""The real service in a process of its own, on a real store, with the practice servers in the test's process."""

from __future__ import annotations

import functools
import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote

from nursery import Nursery, Nursling

from adapters import bootstrap
from adapters.cli.wire import connect
from adapters.practice import person
from adapters.practice.mail_server import PracticeMailServer
from adapters.practice.misbehaviour import Misbehaviour
from adapters.practice.provider import DEVICE_CODE_GRANT, PracticeProvider
from domain.ports import Reply
from infrastructure.escrow import Slot, Work, _read_work
from infrastructure.sealing import Sealer, read_key

SCAN, FAX, ADMIN = "scan@contoso.com", "fax@contoso.com", "admin@contoso.com"
DEADLINE_SECONDS = 60
PRINTER = "office-mfp"
SMTP = f"{PRINTER}/smtp-service"
LINKED = tuple(f"{PRINTER}/smtp-{place}" for place in ("alert", "initial", "quick", "service"))
POP = f"{PRINTER}/pop-internet-fax"

NOT_RETRIEVED, WAITING, RETRIEVED, INVALID = "Not Retrieved", "Waiting for authorisation", "Retrieved", "Invalid"

Json = dict[str, Any]
T = TypeVar("T")

_CONFIG = """
[providers.contoso]
kind = "{kind}"
issuer = "{issuer}"
client_id = "{client_id}"
ca_file = "{ca_file}"
scopes = ["https://outlook.office.com/SMTP.Send"]
timeout = {timeout}
{more}
[mail]
ca_file = "{ca_file}"
"""


def wait_until(condition: Callable[[], T], what: str, seconds: float = DEADLINE_SECONDS) -> T:
    """Wait for a condition to hold; what it gave then."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"in vain for {seconds} s: {what}"
        time.sleep(0.01)
    return found


def in_background(work: Callable[[], T]) -> Future[T]:
    """Do something in a thread that nobody has to wait for."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


_HAND_OUTS = ("/access-token", "/relay/admissions", "/relay/renewals")


class Answer(NamedTuple):
    """What the service answered."""

    status: int
    body: Any
    raw: bytes


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("mailtoken", timeout=DEADLINE_SECONDS * 2)
        self._path = path

    def connect(self) -> None:
        self.sock: socket.socket = connect(self._path, DEADLINE_SECONDS * 2)


class RunningService:
    """A configuration, a key and a store; the service on it from `start` to `stop` or `kill`, as often as wanted.

    `answered` sees every reply but those that hand out an access token.
    """

    def __init__(
        self,
        directory: Path,
        provider: PracticeProvider,
        *,
        kind: str = "microsoft",
        url: str | None = None,
        mail: PracticeMailServer | None = None,
        timeout_seconds: int = 30,
        client_id: str | None = None,
        more: str = "",
    ) -> None:
        self.directory = directory
        self.provider = provider
        self.mail = mail
        self.url = url
        self.answered: Callable[[bytes], None] = lambda _: None
        made = bootstrap.initialise(directory, url)
        self.config = made.config
        self.log = directory / "service.log"
        with self.config.open("a") as config:
            config.write(
                _CONFIG.format(
                    kind=kind,
                    issuer=provider.issuer,
                    client_id=client_id or provider.client_id,
                    ca_file=provider.ca_file,
                    timeout=timeout_seconds,
                    more=more,
                )
            )
        self.sealer: Sealer = read_key(made.key, {})
        self.store_id = str(self.rows("SELECT value FROM meta WHERE name = 'store_id'")[0][0])
        self._process: Nursling | subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process:
            self.kill()

    # The process

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def database(self) -> Path:
        return self.directory / "mailtoken.db"

    @property
    def escrow(self) -> Path:
        return self.directory / "escrow"

    def start(self) -> Self:
        """Start, and wait until it answers."""
        self.begin()
        wait_until(self._answers, "the service answers")
        return self

    def begin(self) -> None:
        """Start."""
        assert self._process is None, "it runs already"
        self._process = _nursery().start(self.config, self.log)

    def stop(self) -> int:
        """Tell it to stop, as systemd does; its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._end(signal.SIGKILL)

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

    # The API

    def call(self, method: str, target: str, body: object = None) -> Answer:
        """Ask; anything the service answers is an answer."""
        given = None if body is None else json.dumps(body).encode()
        headers = {} if given is None else {"Content-Type": "application/json"}
        with closing(_Connection(self.directory / "mailtoken.sock")) as connection:
            connection.request(method, target, given, headers)
            reply = connection.getresponse()
            raw = reply.read()
        if not target.partition("?")[0].endswith(_HAND_OUTS) or reply.status != 200:
            self.answered(raw)
        return Answer(reply.status, json.loads(raw) if raw else None, raw)

    def done(self, method: str, target: str, body: object = None) -> Any:
        """Ask for what has to work; what it gave."""
        answer = self.call(method, target, body)
        assert answer.status < 300, (method, target, answer.status, answer.body)
        return answer.body

    def statuses(self, as_of: str | None = None) -> list[Json]:
        query = f"?as_of={quote(as_of)}" if as_of else ""
        found: list[Json] = self.done("GET", f"/api/v1/status{query}")
        return found

    def status(self, profile: str = SMTP) -> Json:
        found: Json = self.done("GET", f"{_at(profile)}/status")
        return found

    def add_printer(self, name: str = PRINTER, *, account: str = SCAN) -> None:
        """A printer with provider and account filled in for its SMTP settings and one POP setting."""
        self.done("POST", "/api/v1/machines", {"name": name, "catalogue": "sharp-bp"})
        self.fill_in(f"{name}/smtp-service", account, sender_address=account)
        self.fill_in(f"{name}/pop-internet-fax", account)

    def fill_in(self, profile: str, account: str = SCAN, **fields: str) -> None:
        if self.mail:
            pop = profile.rpartition("/")[2].startswith("pop")
            fields |= {"server": "localhost", "port": str(self.mail.pop_port if pop else self.mail.smtp_port)}
        self.done("PATCH", _at(profile), {"provider": "contoso", "account": account, **fields})

    def request(self, profile: str = SMTP) -> Json:
        """Get Token: the code."""
        started: Json = self.done("POST", f"{_at(profile)}/token", {})
        return started

    def sign_in(self, started: Mapping[str, Any], account: str = SCAN) -> None:
        """Sign in with the code, as a person does."""
        person.approve(started["verification_uri"], started["user_code"], account, self.provider.ca_file)

    def decline(self, started: Mapping[str, Any], account: str = SCAN) -> None:
        person.deny(started["verification_uri"], started["user_code"], account, self.provider.ca_file)

    def wait_for(self, label: str, profile: str = SMTP) -> Json:
        """Wait until the token is so; its status then."""

        def seen() -> Json | None:
            status = self.status(profile)
            return status if status["token"] == label else None

        return wait_until(seen, f"{profile} is {label}")  # type: ignore[return-value]

    def approved_but_unpolled(self, profile: str = SMTP, account: str = SCAN) -> tuple[Json, Misbehaviour]:
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
        found: list[Json] = self.done("GET", f"/api/v1/audit/log{query}")
        return found

    def events(self, profile: str = SMTP) -> list[str]:
        """What happened to the token of a profile, in order."""
        return [one["event"] for one in self.history(profile) if one["aggregate"] == "Token"]

    # The store, beside or without the service

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What the store has, by SQL that both engines understand."""
        with self._connected() as connection:
            return list(connection.execute(statement).fetchall())

    def brought_by(self, profile: str = SMTP) -> str | None:
        """The acquisition or renewal that brought what is held for a profile."""
        joined = "token JOIN profile ON profile.token_id = token.id"
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

    def findings(self) -> tuple[str, ...]:
        """What `audit verify` finds."""
        with bootstrap.offline(self.config) as store:
            return store.audit.verify().findings

    def read_offline(self) -> list[Json]:
        """What `status --offline` reads."""
        with bootstrap.offline(self.config) as store:
            return [status.as_json() for status in store.statuses()]

    def kept_replies(self) -> list[tuple[Work, Reply]]:
        """The replies that are in the escrow, opened with the service's own key."""
        return [(slot.work, slot.reply) for slot in self._slots() if slot.reply]

    def _slots(self) -> Iterator[Slot]:
        for path in self.escrow.glob("*.reply"):
            if work := _read_work(path):
                slot = Slot(path, work, self.sealer, self.store_id)
                try:
                    slot.load()
                except FileNotFoundError:
                    continue
                yield slot


@functools.cache
def _nursery() -> Nursery:
    return Nursery(plain_environment())


def granted(reply: Reply) -> str | None:
    """The access token a reply brings, if it brings one."""
    try:
        document = json.loads(reply.body)
    except ValueError:
        return None
    return document.get("access_token") if reply.status == 200 else None


def plain_environment() -> dict[str, str]:
    """The environment without what would send the service, or a command, elsewhere."""
    unwanted = ("MAILTOKEN_CONFIG", "MAILTOKEN_KEY", "CREDENTIALS_DIRECTORY", "COLUMNS", "FORCE_COLOR")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}


def _at(profile: str) -> str:
    return f"/api/v1/profiles/{profile}"
