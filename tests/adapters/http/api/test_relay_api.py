"""The relay's part of the API, over its socket: what is answered to whom, and that one wrong answer is like another."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import START, FakeClock, FakeProvider
from listeners import serve_unix_socket
from served import ADMIN, IMAP, POP, SMTP, a_service
from served_api import Answer

from domain.secret import Secret
from infrastructure.service import Service
from infrastructure.store.hash_chain import last_position

PASSWORD = "a-password-in-clear"
USERS, ADMISSIONS, RENEWALS = "/api/v1/relay/users", "/api/v1/relay/admissions", "/api/v1/relay/renewals"


class Api:
    """Asks as the uid of this test, which is the service's own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, method: str, target: str, body: object = None) -> Answer:
        connection = http.client.HTTPConnection("mailtoken")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self._path))
        given = json.dumps(body) if body is not None else None
        connection.request(method, target, given, {"Content-Type": "application/json"} if given else {})
        answer = connection.getresponse()
        read = Answer(answer.status, dict(answer.getheaders()), answer.read().decode())
        connection.close()
        return read

    def admit(self, **changes: object) -> Answer:
        sign_in = {"protocol": "smtp", "address": "192.0.2.7", "user": "printers", "password": PASSWORD}
        return self("POST", ADMISSIONS, {**sign_in, **changes})


@pytest.fixture
def service(tmp_path: Path, clock: FakeClock, provider: FakeProvider) -> Iterator[Service]:
    with a_service(tmp_path, clock, provider) as service:
        service.relay_users.add("printers", [SMTP, IMAP], [], Secret(PASSWORD), ADMIN)
        yield service


@pytest.fixture
def api(service: Service) -> Iterator[Api]:
    with serve_unix_socket(service) as path:
        yield Api(path)


# Admissions


def test_an_admission_says_where_to_go_and_with_which_token(api: Api, service: Service) -> None:
    service.settings.set_profile(
        SMTP, {"sender_address": "scan@contoso.com", "mailbox": "shared@contoso.com", "timeout": "40"}, ADMIN
    )
    with service.events.store.reading() as query:
        position = last_position(query)
    admitted = api.admit()
    assert admitted.status == 200
    assert admitted.headers["cache-control"] == "no-store"
    assert admitted.body == {
        "user": "printers",
        "profile": SMTP,
        "protocol": "smtp",
        "server": "smtp.contoso.com",
        "port": 587,
        "tls": "starttls",
        "timeout": 40,
        "mailbox": "shared@contoso.com",
        "sender_address": "scan@contoso.com",
        "access_token": service.tokens.access_token(SMTP, None, "client").credential.access_token.reveal(),
        "expires_at": "2026-03-02T09:00:00.000000+00:00",
        "generation": 1,
        "position": position,
        "sender": None,
        "normalize": None,
    }


def test_every_wrong_sign_in_has_the_very_same_answer(api: Api, service: Service) -> None:
    service.relay_users.add("floor", [SMTP], ["10.20.30.0/24"], None, ADMIN)
    answers = {
        (wrong.status, wrong.text)
        for wrong in (
            api.admit(password="not this one"),
            api.admit(user="ghost"),
            api.admit(user="floor"),
            api.admit(user="floor", address="10.20.30.7"),
            api.admit(user="not a name"),
            api.admit(user="nul\x00"),
            api.admit(user="\udcff"),
            api.admit(password="\udcff"),
            api.admit(password=""),
            api.admit(password=None),
            api.admit(user=None),
            api.admit(user=None, password=None),
            api.admit(protocol="pop", address="10.20.30.7", user=None, password=None),
        )
    }
    assert len(answers) == 1
    [(status, text)] = answers
    assert status == 403
    assert json.loads(text)["detail"] == "wrong user, password or network"


def test_a_client_in_a_network_needs_no_sign_in(api: Api, service: Service) -> None:
    service.relay_users.add("floor", [SMTP], ["10.20.30.0/24"], None, ADMIN)
    admitted = api.admit(address="10.20.30.7", user=None, password=None)
    assert (admitted.status, admitted.body["user"], admitted.body["profile"]) == (200, "floor", SMTP)


def test_what_cant_be_served_says_why(api: Api, service: Service, provider: FakeProvider, clock: FakeClock) -> None:
    assert (api.admit(protocol="imap").status, api.admit(protocol="pop").status) == (409, 409)
    assert api.admit(protocol="imap").body["detail"].startswith(f"{IMAP}: the token is Not Retrieved")
    clock.step(hours=2)
    provider.reachable = False
    unreachable = api.admit()
    assert unreachable.status == 503
    assert unreachable.body["detail"].startswith(f"{SMTP}: the access token has expired and could not be renewed")
    provider.reachable = True
    provider.kill_grants()
    clock.step(hours=2)
    invalid = api.admit()
    assert invalid.status == 409
    assert invalid.body["detail"].startswith(f"{SMTP}: the token is Invalid. ")


@pytest.mark.parametrize(
    "changes",
    [{"protocol": "ftp"}, {"address": "printer-1", "user": None, "password": None}, {"more": 1}],
)
def test_what_makes_no_sense_is_refused_without_repeating_the_password(api: Api, changes: dict[str, object]) -> None:
    refused = api.admit(**changes)
    assert refused.status == 422
    assert PASSWORD not in refused.text


def test_a_rejected_generation_is_renewed_once(api: Api, provider: FakeProvider) -> None:
    rejection = {"user": "printers", "protocol": "smtp", "profile": SMTP, "generation": 1}
    renewed = api("POST", RENEWALS, rejection)
    assert renewed.status == 200
    assert renewed.headers["cache-control"] == "no-store"
    assert renewed.body["generation"] == 2
    again = api("POST", RENEWALS, rejection).body
    assert again == api.admit().body
    assert again == {**renewed.body, "position": again["position"]}
    assert provider.requests.count("refresh") == 1
    assert api("POST", RENEWALS, {**rejection, "generation": 2}).status == 409
    assert api("POST", RENEWALS, {**rejection, "user": "ghost"}).status == 403


def test_the_servers_are_listed(api: Api) -> None:
    assert api("GET", "/api/v1/relay/servers").body == [
        {"server": "imap.contoso.com", "port": 143, "tls": "starttls", "protocol": "imap"},
        {"server": "smtp.contoso.com", "port": 587, "tls": "starttls", "protocol": "smtp"},
    ]


# Users


def test_users_are_added_changed_listed_and_removed(api: Api) -> None:
    added = api(
        "POST",
        USERS,
        {"name": "crm@contoso.com", "profiles": [SMTP], "networks": ["10.1.0.0/16"], "password": PASSWORD},
    )
    assert (added.status, added.text) == (204, "")
    user = f"{USERS}/crm%40contoso.com"
    assert api("PUT", f"{user}/profiles", {"profiles": [POP, SMTP]}).status == 204
    assert api("PUT", f"{user}/networks", {"networks": ["10.2.0.0/16", "2001:db8:1::/48"]}).status == 204
    assert api("PUT", f"{user}/password", {"password": "another-password"}).status == 204
    assert api("GET", USERS).body == [
        {
            "name": "crm@contoso.com",
            "profiles": {"pop": POP, "smtp": SMTP},
            "networks": ["10.2.0.0/16", "2001:db8:1::/48"],
            "password": True,
            "sender": None,
            "normalize": None,
        },
        {
            "name": "printers",
            "profiles": {"imap": IMAP, "smtp": SMTP},
            "networks": [],
            "password": True,
            "sender": None,
            "normalize": None,
        },
    ]
    assert api.admit(user="crm@contoso.com", password="another-password").status == 200
    assert api.admit(user="crm@contoso.com").status == 403
    assert api("DELETE", user).status == 204
    assert api("DELETE", user).status == 404
    assert [one["name"] for one in api("GET", USERS).body] == ["printers"]


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"name": "printers"}, 409, "printers: there is a relay user with this name already"),
        ({"name": "two words"}, 422, "user: 'two words' is not 1 to 64 printable characters"),
        ({"profiles": ["press/fax"]}, 404, "no profile is called 'press/fax'"),
        ({"profiles": []}, 422, "profiles: there is none"),
        ({"profiles": ["press/\udcff"]}, 422, "profiles.0: it has half of a surrogate pair"),
        ({"networks": ["fe80::%\udcff/64"]}, 422, "networks.0: it has half of a surrogate pair"),
        ({"networks": ["fe80::%\0/64"]}, 422, "networks.0: it has the character NUL"),
        ({"networks": ["0.0.0.0/0"]}, 422, "network: 0.0.0.0/0 is too wide"),
        ({"password": "short"}, 422, "password: a password has 12 to 255 characters"),
        ({"password": None}, 409, "relay user crm needs a password or a network"),
    ],
)
def test_a_user_that_cant_be_added_is_told_why(api: Api, changes: dict[str, object], status: int, said: str) -> None:
    refused = api("POST", USERS, {"name": "crm", "profiles": [SMTP], "networks": [], "password": PASSWORD, **changes})
    assert refused.status == status
    assert refused.body["detail"].startswith(said)
    assert PASSWORD not in refused.text
    assert len(api("GET", USERS).body) == 1


def test_a_profile_that_a_user_is_mapped_to_is_not_removed(api: Api) -> None:
    refused = api("DELETE", f"/api/v1/profiles/{IMAP}")
    assert refused.status == 409
    assert refused.body["detail"].startswith(f"{IMAP}: relay user printers is mapped to it")


def test_counts_of_mail_are_put_and_read_by_setting_and_day(api: Api) -> None:
    day = START.date().isoformat()
    count = {"profile": SMTP, "day": day, "messages": 2, "octets": 3000, "refusals": 1}
    assert [api("PUT", "/api/v1/relay/mail-counts/run-1", {"counts": [count]}).status for _ in range(2)] == [204, 204]
    assert api("GET", "/api/v1/mail-counts").body == [count]
    assert api("GET", f"/api/v1/mail-counts?since={day}&until={day}&profile={SMTP}").body == [count]
    assert api("GET", "/api/v1/mail-counts?until=2001-01-01").body == []
    assert api("GET", "/api/v1/mail-counts?until=0001-01-01").body == []
    assert api("PUT", "/api/v1/relay/mail-counts/run-1", {"counts": [{**count, "messages": -1}]}).status == 422


def refusal(number: int, **changes: object) -> dict[str, object]:
    usual: dict[str, object] = {
        "at": f"2026-11-22T10:{number // 60:02}:{number % 60:02}.000000+00:00",
        "address": "192.0.2.7",
        "protocol": "smtp",
        "user": "printers",
        "profile": None,
        "commands": ["EHLO printer"],
        "cause": "sender",
        "why": f"550 number {number}",
    }
    return {**usual, **changes}


def test_the_refusals_of_an_address_are_the_last_ones_the_newest_first(api: Api) -> None:
    reported = [refusal(number) for number in range(15)]
    reported.append(refusal(3, address="192.0.2.8", cause="of_a_newer_relay"))
    assert api("POST", "/api/v1/relay/refusals", {"refusals": reported}).status == 204
    own = api("GET", "/api/v1/relay/refusals?address=192.0.2.7").body
    assert [one["why"] for one in own] == [f"550 number {number}" for number in range(14, 4, -1)]
    assert own[0]["step"].startswith("the mailbox may not send as")
    assert len(api("GET", "/api/v1/relay/refusals").body) == 11
    assert api("GET", "/api/v1/relay/refusals?address=192.0.2.8").body[0]["step"] == "of_a_newer_relay"


def test_what_is_too_long_for_a_refusal_is_not_taken(api: Api) -> None:
    assert api("POST", "/api/v1/relay/refusals", {"refusals": [refusal(1, why="x" * 3000)]}).status == 422
    assert api("GET", "/api/v1/relay/refusals").body == []
