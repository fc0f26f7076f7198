"""Who may do what over the Unix socket: the kernel says who calls, the configuration says what they may."""

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from service_process import SCAN, ServiceProcess
from waiting import wait_until

from adapters.http.principal import ROLES, Principal, principal_of_uid
from domain.errors import NotPermitted
from domain.scope import Scope
from infrastructure.config.tables import Grant, SocketTable

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
        principal = principal_of_uid(uid, TABLE)
        assert principal.roles == set(ROLES)
        assert principal.require_token("any/profile").startswith("client:")


def test_another_uid_holds_what_it_was_granted_and_nothing_else() -> None:
    client = principal_of_uid(CLIENT, TABLE)
    assert client.roles == {"client"}
    assert client.require_token(GRANTED) == f"client:uid {CLIENT}"
    with pytest.raises(NotPermitted):
        client.require_role("operator", "administrator")
    auditor = principal_of_uid(AUDITOR, TABLE)
    assert auditor.require_role("auditor") == f"auditor:uid {AUDITOR}"
    with pytest.raises(NotPermitted):
        auditor.require_token(GRANTED)


def test_a_uid_has_each_role_on_the_machines_of_the_grants_that_give_it() -> None:
    grants = (
        Grant(uid=AUDITOR, roles=("operator",), machines=("hamburg-*",)),
        Grant(uid=AUDITOR, roles=("operator", "auditor"), machines=("lobby",)),
        Grant(uid=AUDITOR, roles=("auditor",)),
    )
    principal = principal_of_uid(AUDITOR, SocketTable(grants=grants))
    assert principal.scope("operator") == Scope(("hamburg-*", "lobby"))
    assert principal.scope("auditor").is_all
    assert not principal.scope("administrator").has_machine("lobby")
    assert principal_of_uid(0, SocketTable(grants=grants)).scope("operator").is_all


@pytest.mark.parametrize("role", ROLES)
def test_a_uid_that_was_granted_nothing_may_do_nothing(role: str) -> None:
    nobody = principal_of_uid(NOBODY, TABLE)
    assert nobody.roles == set()
    with pytest.raises(NotPermitted, match=f"unix_user_without_role name='uid {NOBODY}' role='{role}'"):
        nobody.require_role(role)


def test_who_acts_is_named_by_the_first_role_that_allows_it() -> None:
    principal = Principal("anna", frozenset({"operator", "auditor"}))
    assert principal.require_role("auditor", "operator") == "auditor:anna"
    assert principal.require_role("administrator", "operator") == "operator:anna"


@pytest.fixture(scope="module")
def shared(world: Callable[[Path], ServiceProcess]) -> Iterator[ServiceProcess]:
    """A service whose socket other uids can reach, with a token in it."""
    # Not below pytest's own folder, which other uids can't enter.
    folder = Path(tempfile.mkdtemp(prefix="mailtoken-"))
    folder.chmod(0o755)
    service = world(folder / "house")
    service.directory.chmod(0o755)
    service.configure(_GRANTS)
    try:
        with service:
            service.get_token(service.add_printer())
            service.run("relay", "user", "add", "printers", GRANTED, message="a-relay-password\n")
            service.socket.chmod(0o666)
            yield service
    finally:
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


@pytest.mark.needs("root")
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
def test_each_route_is_open_to_whom_it_is_granted(shared: ServiceProcess, request_line: str, allowed: set[int]) -> None:
    body = json.dumps(next((fields for route, fields in _BODIES.items() if route in request_line), {}))
    for uid in (CLIENT, AUDITOR, NOBODY, RELAY):
        status, text = answer(shared.socket, uid, request_line, "" if request_line.startswith("GET") else body)
        assert (status < 300) is (uid in allowed), (uid, status, text)
        if uid not in allowed:
            assert status == 403
            assert json.loads(text)["status"] == 403
    assert shared.status(GRANTED)["token"] == "Retrieved"


@pytest.mark.needs("root")
def test_an_unknown_profile_is_refused_as_one_that_was_not_granted(shared: ServiceProcess) -> None:
    known = answer(shared.socket, CLIENT, "GET /profiles/office-mfp/smtp-quick/access-token")
    unknown = answer(shared.socket, CLIENT, "GET /profiles/no-such/profile/access-token")
    assert known[1].replace(b"office-mfp/smtp-quick", b"X") == unknown[1].replace(b"no-such/profile", b"X")


@pytest.mark.needs("root")
def test_who_read_a_token_is_told_from_who_renewed_it_in_the_record(shared: ServiceProcess) -> None:
    def renewed() -> list[str]:
        assert answer(shared.socket, CLIENT, f"GET /profiles/{GRANTED}/access-token?min_ttl=3595")[0] == 200
        events = json.loads(shared.done("audit", "log", "--json"))
        return [one["by"] for one in events if one["event"] == "Renewed"]

    wait_until(renewed, "less than 3,595 seconds of its life are left, so it is renewed")
    assert set(renewed()) == {f"client:uid {CLIENT}"}
    assert shared.status(GRANTED)["account"] == SCAN
