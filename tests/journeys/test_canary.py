"""Every secret ever issued is looked for in everything the service writes, says and keeps: it is nowhere to be seen.

But for `token show` and the access-token endpoint, which are there to give an access token.
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import pytest
from canaries import sightings
from command_line import Done
from invariants import assert_agree
from practice_faults.mail_server import FaultyMailServer
from practice_faults.provider import FaultyProvider
from service_process import FAX, INVALID, NOT_RETRIEVED, POP, RETRIEVED, SCAN, SMTP, ServiceProcess
from waiting import in_background, wait_until

from infrastructure.encryption.envelope import Place

MakeService = Callable[..., ServiceProcess]


class Observer:
    """Keeps everything that may be seen from outside, and every sealed row there ever was."""

    def __init__(self, service: ServiceProcess) -> None:
        self.service = service
        self.said: list[bytes] = []
        self.printed: list[bytes] = []
        self.sealed: set[bytes] = set()
        service.answered = self.said.append

    def note_what_is_sealed(self) -> None:
        for wrapped, body in self.service.rows("SELECT wrapped, body FROM vault"):
            self.sealed |= {bytes(wrapped), bytes(body)}
        for path in self.service.escrow.glob("*.*"):
            line = path.read_bytes()[1024:].split(b"\n", 1)[0]
            if line.startswith(b"{"):
                self.sealed.add(base64.b64decode(json.loads(line)["body"]))

    def run(self, *arguments: str) -> Done:
        """A command; what it prints is kept, unless it is there to give an access token."""
        done = self.service.run(*arguments)
        gives_a_token = "show" in arguments and done.returncode == 0
        self.printed.append((done.stderr if gives_a_token else done.stdout + done.stderr).encode())
        return done

    def places(self) -> dict[str, bytes]:
        service = self.service
        places = {str(path.name): path.read_bytes() for path in service.directory.iterdir() if _is_kept(path)}
        places |= {f"escrow/{path.name}": path.read_bytes() for path in service.escrow.iterdir()}
        places["what the API said"] = b"\n".join(self.said)
        places["what commands printed"] = b"\n".join(self.printed)
        places["process arguments"] = Path(f"/proc/{service.pid}/cmdline").read_bytes()
        if os.geteuid() == 0:  # the environment of a process that can't be dumped is for root alone
            places["process environment"] = Path(f"/proc/{service.pid}/environ").read_bytes()
        if service.url:
            places["the database"] = self._dump()
        return places

    def _dump(self) -> bytes:
        """Every row of every table, as text and as the bytes that are in it."""
        tables = self.service.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        rows = [row for (table,) in tables for row in self.service.rows(f"SELECT * FROM {table}")]
        return b"\n".join(value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row)


def _is_kept(path: Path) -> bool:
    return path.is_file() and path.name not in {"mailtoken.key", "client-secret"}


@pytest.mark.parametrize(("engine", "kind"), [("sqlite", "microsoft"), ("postgresql", "oidc")])
def test_no_secret_is_seen_anywhere(
    make_service: MakeService,
    practice: FaultyProvider,
    mail: FaultyMailServer,
    store_url: str | None,
    kind: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "client-secret").write_text(practice.client_secret)
    service = make_service(
        url=store_url,
        kind=kind,
        mail=mail,
        timeout_seconds=2,
        client_id=practice.confidential_client_id,
        more='client_secret_file = "client-secret"',
    )
    seen = Observer(service)
    everything_that_happens(seen, practice)
    relay_passwords = everything_a_relay_does(seen)
    damage(seen, practice)
    everything_that_can_be_asked(seen)
    places = seen.places()
    key = service.directory / "mailtoken.key"
    secrets: list[str | bytes] = [*practice.issued_secrets, practice.client_secret, practice.mail_server_client_secret]
    secrets += [key.read_text().strip(), base64.b64decode(key.read_text()), *relay_passwords, "$argon2id$v=19$"]
    assert len(secrets) > 25
    assert sightings(secrets, places) == []
    # Nothing was looked for in nothing.
    log = places["service.log"]
    assert all(word in log for word in (b"Traceback", b"vault_damaged", b"reply_in_doubt", b"KeyError")), log.decode()
    assert b"Retrieved" in places["what the API said"]
    assert b"AuthorizationRequested" in places["what commands printed"]
    assert len(places["the database" if store_url else "mailtoken.db"]) > 10_000


def everything_that_happens(seen: Observer, practice: FaultyProvider) -> None:
    """Get, deny, wrong person, renew, failures of all kinds, delete, late replies, a crash and its recovery."""
    service = seen.service
    service.add_printer()
    service.decline(service.request())
    service.wait_for(NOT_RETRIEVED)
    _, poll = service.approved_but_unpolled(account=FAX)
    seen.note_what_is_sealed()
    poll.release()
    service.wait_for(NOT_RETRIEVED)
    service.get_token()
    service.get_token(POP)
    shown = seen.run("token", "show", SMTP)
    assert shown.stdout.strip() == service.access_token().body["access_token"]
    assert shown.stdout.strip() in practice.issued_secrets
    assert service.ask("POST", f"/api/v1/profiles/{SMTP}/test", {"to": FAX})["ok"]
    seen.note_what_is_sealed()
    practice.rules.refresh = "grace"
    assert service.renew().status == 200
    # Providers and proxies that give back what they were sent, and half of what they should give.
    [spent, *_] = practice.live_refresh_tokens(SCAN)
    spoilt: tuple[tuple[str, dict[str, Any]], ...] = (
        ("server_error", {}),
        ("garbage", {"body": f"<p>You sent {spent}</p>"}),
        ("truncated", {}),
        ("hang", {}),
        ("answer_lost", {}),
        ("rate_limited", {}),
        ("error", {"error": "never heard of " + spent, "description": f"what is {spent}?"}),
        ("invalid_client", {"description": f"not with {spent}"}),
    )
    for mode, details in spoilt:
        with practice.inject_fault(mode, grant_type="refresh_token", **details):
            assert service.renew().status == 503, mode
        seen.note_what_is_sealed()
    practice.inject_fault("invalid_grant", grant_type="refresh_token", description=f"AADSTS700082: {spent}")
    assert service.renew().status == 424
    service.wait_for(INVALID)
    assert service.renew().status == 200
    # A crash with the reply in the escrow.
    service.kill()
    service.start()
    keys = practice.hold(endpoint="jwks")
    in_background(service.renew)
    keys.wait_until_held(60)
    seen.note_what_is_sealed()
    service.kill()
    keys.release()
    service.start()
    service.wait_for(RETRIEVED)
    # A reply that comes to a token that is gone.
    seen.note_what_is_sealed()
    late = practice.hold(grant_type="refresh_token")
    renewal = in_background(service.renew)
    late.wait_until_held(60)
    assert service.delete().status == 200
    late.release()
    renewal.result(60)
    service.get_token()


def everything_a_relay_does(seen: Observer) -> list[str]:
    """Users with passwords, right and wrong ones, and a rejected token; returns the passwords."""
    service, passwords = seen.service, [token_urlsafe(20) for _ in range(5)]
    first, second, short, wrong, unknown = passwords
    users, user = "/api/v1/relay/users", {"name": "printers", "profiles": [SMTP, POP]}
    service.ask("POST", users, {**user, "password": first})
    service.ask("PUT", f"{users}/printers/password", {"password": second})
    assert service.call("POST", users, {**user, "password": f"{short}\n"}).status == 422
    sign_in = {"protocol": "smtp", "address": "192.0.2.7", "user": "printers", "password": second}
    admitted = service.ask("POST", "/api/v1/relay/admissions", sign_in)
    for sent in ({"password": first}, {"password": wrong}, {"user": unknown}, {"password": [wrong]}, {"more": wrong}):
        assert service.call("POST", "/api/v1/relay/admissions", {**sign_in, **sent}).status in (403, 422)
    rejection = {name: admitted[name] for name in ("user", "protocol", "profile", "generation")}
    service.ask("POST", "/api/v1/relay/renewals", rejection)
    seen.note_what_is_sealed()
    seen.run("relay", "user", "list", "--json")
    return passwords


def damage(seen: Observer, practice: FaultyProvider) -> None:
    """A vault row that does not open, one that opens and makes no sense, and what the service says to it."""
    service = seen.service
    [(token_id, generation)] = service.rows(
        "SELECT subject_id, generation FROM vault JOIN profile ON profile.token_id = subject_id "
        f"WHERE kind = 'credential' AND profile.name = '{POP}'"
    )
    place = Place(service.store_id, token_id, "credential", generation)
    access_token = practice.live_access_tokens(SCAN)[-1]
    nonsense = service.sealer.seal(json.dumps({"access_token": access_token}).encode(), place)
    for body in (nonsense.body[:-1] + bytes([nonsense.body[-1] ^ 1]), nonsense.body):
        _overwrite(service, token_id, nonsense.wrapped, body)
        assert service.access_token(POP).status == 500
        assert service.renew(POP).status == 500
        assert service.call("POST", f"/api/v1/profiles/{POP}/test", {}).status == 500
        assert seen.run("--debug", "token", "show", POP).returncode == 1
    assert service.status(POP)["attention"] == "vault_damaged"
    assert service.access_token(SMTP).status == 200


def everything_that_can_be_asked(seen: Observer) -> None:
    service = seen.service
    service.statuses()
    service.statuses(as_of=service.status()["since"])
    service.history()
    for target in ("profiles", "groups", "machines", "providers", "openapi.json", "nothing/of/the/kind"):
        service.call("GET", f"/api/v1/{target}")
    service.call("GET", f"/api/v1/profiles/{SMTP}/access-token?min_ttl=99999999")
    for arguments in (
        ("status", "--json"),
        ("status", "--offline"),
        ("status", "--as-of", service.status()["since"], "--json"),
        ("audit", "log"),
        ("audit", "log", POP, "--json"),
        ("audit", "export"),
        ("--debug", "audit", "verify"),
        ("profile", "show", SMTP),
        ("--debug", "token", "renew", POP),
    ):
        seen.run(*arguments)


def _overwrite(service: ServiceProcess, token_id: str, wrapped: bytes, body: bytes) -> None:
    mark = "%s" if service.url else "?"
    with service._connected() as connection:
        connection.execute(
            f"UPDATE vault SET wrapped = {mark}, body = {mark} WHERE kind = 'credential' AND subject_id = {mark}",
            (wrapped, body, token_id),
        )
        connection.commit()


# What is deleted is gone


@pytest.fixture
def engine() -> str:
    return "sqlite"


@pytest.mark.parametrize("reader", [False, True], ids=["", "with-a-reader-in-the-way"])
@pytest.mark.parametrize("killed", [False, True], ids=["", "and-killed-right-after"])
def test_after_delete_not_even_what_was_sealed_is_in_any_file(
    make_service: MakeService, practice: FaultyProvider, reader: bool, killed: bool
) -> None:
    practice.rules.refresh = "grace"
    service = make_service()
    seen = Observer(service)
    service.add_printer()
    _, poll = service.approved_but_unpolled()
    seen.note_what_is_sealed()
    poll.release()
    service.wait_for(RETRIEVED)
    for mode in ("garbage", "truncated"):
        seen.note_what_is_sealed()
        practice.inject_fault(mode, grant_type="refresh_token")
        assert service.renew().status == 503
        seen.note_what_is_sealed()
        assert service.renew().status == 200
    seen.note_what_is_sealed()
    assert service.request()  # a device code for a re-authorization is there as well
    seen.note_what_is_sealed()
    assert len(seen.sealed) > 10
    assert _kept(seen), "before the deletion they are there"

    with closing(sqlite3.connect(f"file:{service.database}?mode=ro", uri=True, isolation_level=None)) as other:
        if reader:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM vault").fetchone()
        revocation = practice.hold(endpoint="revocation")
        deletion = in_background(service.delete)
        revocation.wait_until_held(60)
        if reader:
            assert _kept(seen), "a reader that began before still sees them"
        if killed:
            service.kill()
        revocation.release()
        if not killed:
            assert deletion.result(60).status == 200
    if killed:
        service.start()
    if reader or killed:
        wait_until(lambda: not _kept(seen), "they are gone once readers allow")
    assert not _kept(seen)
    assert assert_agree(service.statuses())["token"] == NOT_RETRIEVED
    assert [path.name for path in service.escrow.iterdir()] == ["lock"]
    assert service.findings() == ()


def _kept(seen: Observer) -> list[str]:
    """Which files still have sealed bytes of before."""
    files = [path for path in seen.service.directory.rglob("*") if path.is_file()]
    haystacks = {path.name: _read(path) for path in files}
    needles = [sealed[:24] for sealed in seen.sealed] + [base64.b64encode(sealed[:24]) for sealed in seen.sealed]
    return [name for name, haystack in haystacks.items() if any(needle in haystack for needle in needles)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


# The test can fail


@pytest.mark.parametrize(
    "leak",
    [
        lambda secret: secret,
        lambda secret: secret[:32],
        lambda secret: secret[-25:],
        lambda secret: secret.encode().hex(),
        lambda secret: base64.b64encode(f"user=scan@contoso.com\1auth=Bearer {secret}\1\1".encode()).decode(),
        lambda secret: base64.urlsafe_b64encode(b"x" + secret.encode()).decode(),
        lambda secret: "".join(f"%{ord(character):02X}" for character in secret),
    ],
    ids=["whole", "its beginning", "its end", "hexadecimal", "SASL", "base64url", "URL-encoded"],
)
def test_a_planted_secret_is_found_wherever_it_is(leak: Callable[[str], str]) -> None:
    secret = token_urlsafe(48)
    for place in ("mailtoken.db-wal", "service.log", "escrow/x.doubt"):
        planted = {"mailtoken.db-wal": b"\0" * 64, "service.log": b"{}", "escrow/x.doubt": b"\0" * 2048}
        assert sightings([secret], planted) == []
        planted[place] += b"... " + leak(secret).encode() + b" ..."
        [sighting, *_] = sightings([secret], planted)
        assert sighting.endswith(f"is in {place}")
        assert secret not in sighting


def test_an_id_token_is_found_too() -> None:
    token = b"eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJpc3MiOiJodHRwczovL2xvY2FsaG9zdCJ9.c2lnbmF0dXJl"
    assert sightings([], {"service.log": b"reply: " + token}) == ["an ID token is in service.log"]
