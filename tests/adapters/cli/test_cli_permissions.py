"""Who may do what over the Unix socket: the kernel says who calls, the configuration says what they may."""

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from mailtoken_house import SCAN, House, wait_until

from adapters.http.callers import ROLES, Caller, caller_of
from adapters.practice.ca import PracticeCA
from adapters.practice.mail_server import PracticeMailServer
from adapters.practice.provider import PracticeProvider
from domain.errors import NotPermitted
from infrastructure.config import Grant, SocketTable

CLIENT, AUDITOR, NOBODY, RELAY = 54321, 54322, 54323, 54324
GRANTED = "office-mfp/smtp-service"
TABLE = SocketTable(
    grants=(Grant(uid=CLIENT, roles=("client",), profiles=(GRANTED,)), Grant(uid=AUDITOR, roles=("auditor",)))
)
_GRANTS = f"""
[[socket.grants]]
uid = {CLIENT}
roles = ["client"]
profiles = ["{GRANTED}"]

[[socket.grants]]
uid = {AUDITOR}
roles = ["auditor"]

[[socket.grants]]
uid = {RELAY}
roles = ["relay"]
"""


_BODIES: dict[str, dict[str, object]] = {
    "/redirect": {"redirected_to": "x"},
    "/relay/admissions": {
        "protocol": "smtp",
        "address": "192.0.2.7",
        "user": "printers",
        "password": "a-relay-password",
    },
    "/relay/renewals": {"user": "printers", "protocol": "smtp", "profile": GRANTED, "generation": 0},
    "POST /relay/users": {"name": "crm", "profiles": [GRANTED], "password": "a-relay-password"},
    "/password": {"password": "a-relay-password"},
    "/profiles": {"profiles": [GRANTED]},
    "/networks": {"networks": []},
}


def test_root_and_the_services_own_uid_hold_every_role_for_every_profile() -> None:
    for uid in (0, os.geteuid()):
        caller = caller_of(uid, TABLE)
        assert caller.roles == set(ROLES)
        assert caller.reading_token_of("any/profile").startswith("client:")


def test_another_uid_holds_what_it_was_granted_and_nothing_else() -> None:
    client = caller_of(CLIENT, TABLE)
    assert client.roles == {"client"}
    assert client.reading_token_of(GRANTED) == f"client:uid {CLIENT}"
    with pytest.raises(NotPermitted):
        client.acting_as("operator", "administrator")
    auditor = caller_of(AUDITOR, TABLE)
    assert auditor.acting_as("auditor") == f"auditor:uid {AUDITOR}"
    with pytest.raises(NotPermitted):
        auditor.reading_token_of(GRANTED)


@pytest.mark.parametrize("role", ROLES)
def test_a_uid_that_was_granted_nothing_may_do_nothing(role: str) -> None:
    nobody = caller_of(NOBODY, TABLE)
    assert nobody.roles == set()
    with pytest.raises(NotPermitted, match=f"uid {NOBODY} is not {role}"):
        nobody.acting_as(role)


def test_who_acts_is_named_by_the_first_role_that_allows_it() -> None:
    caller = Caller("anna", frozenset({"operator", "auditor"}))
    assert caller.acting_as("auditor", "operator") == "auditor:anna"
    assert caller.acting_as("administrator", "operator") == "operator:anna"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house whose socket other uids can reach, with a token in it."""
    if os.geteuid() != 0:
        pytest.skip("only root can call as another uid")
    ca = PracticeCA.create(tmp_path_factory.mktemp("ca"))
    # Not below pytest's own folder, which other uids can't enter.
    folder = Path(tempfile.mkdtemp(prefix="mailtoken-"))
    folder.chmod(0o755)
    with PracticeProvider(ca, interval=1) as provider, PracticeMailServer(ca, provider) as mail:
        house = House(folder / "house", ca, provider, mail)
        (folder / "house").chmod(0o755)
        with (house.directory / "mailtoken.toml").open("a") as config:
            config.write(_GRANTS)
        house.start()
        try:
            house.get_token(house.add_printer())
            house.run("relay", "user", "add", "printers", GRANTED, message="a-relay-password\n")
            house.socket.chmod(0o666)
            yield house
        finally:
            house.stop()
            shutil.rmtree(folder)


def answer(path: Path, uid: int, request: str, body: str = "") -> tuple[int, bytes]:
    """What the service answers to this uid, asked by a child process that has become it."""
    method, target = request.split()
    head = f"{method} /api/v1{target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/json\r\n\r\n"
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                connection.sendall((head + body).encode())
                while got := connection.recv(65536):
                    os.write(writer, got)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        reply = pipe.read()
    os.waitpid(child, 0)
    return int(reply.split(b" ", 2)[1]), reply.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("request_line", "allowed"),
    [
        (f"GET /profiles/{GRANTED}/access-token", {CLIENT}),
        ("GET /profiles/office-mfp/smtp-quick/access-token", set()),
        ("GET /profiles/no-such/profile/access-token", set()),
        ("GET /status", {AUDITOR}),
        (f"GET /profiles/{GRANTED}", {AUDITOR}),
        ("GET /machines", {AUDITOR}),
        ("GET /groups", {AUDITOR}),
        ("GET /providers", {AUDITOR}),
        ("GET /audit/log", {AUDITOR}),
        (f"POST /profiles/{GRANTED}/token", set()),
        (f"POST /profiles/{GRANTED}/token/renew", set()),
        (f"POST /profiles/{GRANTED}/token/cancel", set()),
        (f"POST /profiles/{GRANTED}/token/redirect", set()),
        (f"DELETE /profiles/{GRANTED}/token", set()),
        (f"DELETE /profiles/{GRANTED}", set()),
        (f"DELETE /profiles/{GRANTED}/group", set()),
        ("DELETE /machines/office-mfp", set()),
        (f"POST /profiles/{GRANTED}/test", set()),
        ("POST /providers/contoso/check", set()),
        ("POST /relay/admissions", {RELAY}),
        ("POST /relay/renewals", {RELAY}),
        ("GET /relay/servers", {RELAY}),
        ("GET /relay/users", set()),
        ("POST /relay/users", set()),
        ("DELETE /relay/users/printers", set()),
        ("PUT /relay/users/printers/password", set()),
        ("PUT /relay/users/printers/profiles", set()),
        ("PUT /relay/users/printers/networks", set()),
    ],
)
def test_each_route_is_open_to_whom_it_is_granted(shared: House, request_line: str, allowed: set[int]) -> None:
    body = json.dumps(next((fields for route, fields in _BODIES.items() if route in request_line), {}))
    for uid in (CLIENT, AUDITOR, NOBODY, RELAY):
        status, text = answer(shared.socket, uid, request_line, "" if request_line.startswith("GET") else body)
        assert (status < 300) is (uid in allowed), (uid, status, text)
        if uid not in allowed:
            assert status == 403
            assert json.loads(text)["status"] == 403
    assert shared.statuses()[GRANTED]["token"] == "Retrieved"


def test_an_unknown_profile_is_refused_as_one_that_was_not_granted(shared: House) -> None:
    known = answer(shared.socket, CLIENT, "GET /profiles/office-mfp/smtp-quick/access-token")
    unknown = answer(shared.socket, CLIENT, "GET /profiles/no-such/profile/access-token")
    assert known[1].replace(b"office-mfp/smtp-quick", b"X") == unknown[1].replace(b"no-such/profile", b"X")


def test_who_read_a_token_is_told_from_who_renewed_it_in_the_record(shared: House) -> None:
    def renewed() -> list[str]:
        assert answer(shared.socket, CLIENT, f"GET /profiles/{GRANTED}/access-token?min_ttl=3595")[0] == 200
        events = json.loads(shared.done("audit", "log", "--json"))
        return [one["by"] for one in events if one["event"] == "Renewed"]

    wait_until(renewed, "less than 3,595 seconds of its life are left, so it is renewed")
    assert set(renewed()) == {f"client:uid {CLIENT}"}
    assert shared.statuses()[GRANTED]["account"] == SCAN
