"""`mailtoken client` and `mailtoken administrator`, against a service that listens on loopback too."""

import http.client
import json
import os
import pwd
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from ports import free_port
from service_process import ServiceProcess

CHANGED = 7
PASSWORD = "a-password-in-clear"
SMTP = "office-mfp/smtp-service"


def listen(service: ServiceProcess) -> int:
    """Have its service listen on loopback from its next start on; the port."""
    port = free_port()
    config = service.directory / "mailtoken.toml"
    config.write_text(config.read_text().replace("[server]\n", f'[server]\nlisten = "127.0.0.1:{port}"\n', 1))
    return port


@pytest.fixture(scope="module")
def open_service(
    world: Callable[[Path], ServiceProcess], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ServiceProcess, int]]:
    """A service that listens, with a token in it, and its port."""
    service = world(tmp_path_factory.mktemp("open") / "house")
    port = listen(service)
    service.start()
    service.get_token(service.add_printer())
    yield service, port
    service.stop()


def ask(port: int, method: str, target: str, body: str | None = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request(method, target, body, headers)
    answer = connection.getresponse()
    read = answer.status, answer.read().decode()
    connection.close()
    return read


def access_token(port: int, key: str, profile: str = SMTP) -> int:
    return ask(port, "GET", f"/api/v1/profiles/{profile}/access-token", Authorization=f"Bearer {key}")[0]


def lines_of_clients(service: ServiceProcess) -> list[str]:
    return [" ".join(line.split()) for line in service.done("client", "list").splitlines()]


def set_up(port: int, link: str, name: str) -> int:
    code = urlsplit(link).query.partition("=")[2]
    form = urlencode({"code": code, "name": name, "password": PASSWORD, "repeated": PASSWORD})
    return ask(port, "POST", "/setup", form, **{"Content-Type": "application/x-www-form-urlencoded"})[0]


# Clients


def test_a_key_is_printed_alone_and_once_and_reads_what_was_granted(open_service: tuple[ServiceProcess, int]) -> None:
    service, port = open_service
    added = service.run("client", "add", "backup", "--profile", SMTP)
    key = added.stdout.removesuffix("\n")
    assert re.fullmatch(r"[a-z2-7]{16}\.[A-Za-z0-9_-]{43}", key)
    assert "Client backup is added." in added.stderr
    assert access_token(port, key) == 200
    assert access_token(port, key, "office-mfp/pop-internet-fax") == 403
    service.done("client", "grant", "backup", "office-mfp/pop-internet-fax")
    assert access_token(port, key, "office-mfp/pop-internet-fax") == 409
    service.done("client", "revoke", "backup", "office-mfp/pop-internet-fax")
    [listed] = [one for one in json.loads(service.done("client", "list", "--json")) if one["name"] == "backup"]
    assert (listed["profiles"], listed["expires_at"], listed["key_id"]) == ([SMTP], None, key.partition(".")[0])
    assert listed["used_at"]
    assert key.partition(".")[2] not in service.done("client", "list") + service.done("audit", "export")
    newer = service.done("client", "key", "backup").strip()
    assert (access_token(port, key), access_token(port, newer)) == (401, 200)
    service.done("client", "revoke", "backup")
    assert access_token(port, newer) == 401


def test_a_key_ends_with_the_day_it_was_given(open_service: tuple[ServiceProcess, int]) -> None:
    service, _ = open_service
    service.done("client", "add", "guest", "--expires", "2099-12-31")
    [listed] = [one for one in json.loads(service.done("client", "list", "--json")) if one["name"] == "guest"]
    assert listed["expires_at"] == "2100-01-01T00:00:00.000000+00:00"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("add", "two words"), 2, "client: 'two words' is not a name"),
        (("add", "x", "--expires", "2001-01-01"), 2, "expires: 2001-01-02 00:00 UTC is over"),
        (("add", "x", "--expires", "soon"), 2, "expires: 'soon' is not a day like 2027-11-22"),
        (("add", "x", "--profile", "no/such"), 4, "no profile is called 'no/such'"),
        (("grant", "ghost", SMTP), 4, "no client is called 'ghost': see mailtoken client list"),
        (("revoke", "ghost"), 4, "no client is called 'ghost'"),
        (("revoke", "a/b"), 4, "no client is called 'a/b'"),
        (("key", "ghost"), 4, "no client is called 'ghost'"),
    ],
)
def test_what_cant_be_done_with_clients_says_why(
    open_service: tuple[ServiceProcess, int], words: tuple[str, ...], code: int, said: str
) -> None:
    done = open_service[0].run("client", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert done.stderr.startswith(f"mailtoken: {said}")


@pytest.mark.parametrize("ending", ["toml", "yaml"])
def test_clients_go_to_another_store_in_a_file_and_their_keys_do_not(
    open_service: tuple[ServiceProcess, int], own_service: ServiceProcess, ending: str
) -> None:
    service, _ = open_service
    service.done("client", "add", f"moving-{ending}", "--profile", SMTP)
    exported = service.done("export", "--format", ending)
    port, file = listen(own_service), own_service.directory / f"fleet.{ending}"
    file.write_text(exported)
    own_service.start()
    applied = own_service.run("apply", str(file), "--yes", "--detailed-exit-code")
    said = f"+ client moving-{ending}, without a key: mailtoken client key moving-{ending} makes one"
    assert (applied.returncode, said in applied.stdout.splitlines()) == (CHANGED, True)
    assert own_service.done("export", "--format", ending) == exported
    assert own_service.run("apply", str(file), "--detailed-exit-code").returncode == 0
    assert f"moving-{ending} {SMTP} no key yet -" in lines_of_clients(own_service)
    assert access_token(port, "None.") == 401
    key = own_service.done("client", "key", f"moving-{ending}").strip()
    assert access_token(port, key) == 409, "it may read the token, and there is none yet"
    (line,) = [line for line in lines_of_clients(own_service) if line.startswith(f"moving-{ending}")]
    assert "no key yet" not in line
    assert own_service.run("audit", "verify").returncode == 0


def test_who_reads_a_token_on_the_socket_is_on_record_as_a_client_too(open_service: tuple[ServiceProcess, int]) -> None:
    service, _ = open_service
    for _ in range(3):
        service.done("token", "show", SMTP)
    told = [json.loads(line) for line in service.done("audit", "export").splitlines()]
    user = pwd.getpwuid(os.geteuid()).pw_name
    here = [one for one in told if one["aggregate"] == "Reader" and one["by"] == f"client:{user}"]
    assert [(one["event"], one["facts"]["generation"]) for one in here] == [("Created", 1)]
    assert (
        f"access token served through {SMTP} for the first time"
        in service.run("audit", "log", SMTP, COLUMNS="200").stdout
    )


# Administrators


def test_an_administrator_is_added_with_a_password_or_with_a_link(open_service: tuple[ServiceProcess, int]) -> None:
    service, port = open_service
    added = service.run("administrator", "add", "anna", "--role", "operator", message=f"{PASSWORD}\n")
    assert (added.returncode, added.stdout) == (0, "anna is added.\n")
    linked = service.run("administrator", "add", "bob", "--role", "auditor", "--role", "administrator", "--link")
    assert linked.stdout.startswith(f"http://127.0.0.1:{port}/setup?code=")
    # Also if there is no link, which needs an address where pages are.
    assert linked.stderr.startswith("bob is added.\nOpen this link until ")
    assert set_up(port, linked.stdout.strip(), "") == 303
    assert set_up(port, linked.stdout.strip(), "") == 403
    service.done("administrator", "roles", "anna", "--role", "auditor")
    assert json.loads(service.done("administrator", "list", "--json")) == [
        {"name": "anna", "roles": ["auditor"], "password": True, "second_factor": False, "machines": []},
        {
            "name": "bob",
            "roles": ["administrator", "auditor"],
            "password": True,
            "second_factor": False,
            "machines": [],
        },
    ]
    again = service.run("administrator", "password", "anna", message="another-password\n")
    assert (again.returncode, again.stdout) == (0, "anna has a new password.\n")
    service.done("administrator", "remove", "anna")
    assert "bob" in service.done("administrator", "list")
    for words in (("remove", "bob"), ("roles", "bob", "--role", "auditor")):
        refused = service.run("administrator", *words)
        assert (refused.returncode, refused.stdout) == (5, "")
        assert refused.stderr.startswith("mailtoken: bob is the last administrator who can sign in: let another person")
    assert PASSWORD not in service.done("audit", "export")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("add", "x", "--role", "client", "--link"), 2, "roles: client: a person is one or more of"),
        (("add", "x@contoso.com", "--role", "operator", "--link"), 2, "administrator: 'x@contoso.com' is not a name"),
        (("add", "x"), 2, "Missing option '--role'"),
        (("link", "ghost"), 4, "no administrator is called 'ghost': see mailtoken administrator list"),
        (("reset-second-factor", "ghost"), 4, "no administrator is called 'ghost'"),
        (("remove", "ghost"), 4, "no administrator is called 'ghost'"),
        (("roles", "a/b", "--role", "operator"), 4, "no administrator is called 'a/b'"),
    ],
)
def test_what_cant_be_done_with_administrators_says_why(
    open_service: tuple[ServiceProcess, int], words: tuple[str, ...], code: int, said: str
) -> None:
    done = open_service[0].run("administrator", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert done.stderr.startswith(f"mailtoken: {said}")


def test_the_first_start_gives_a_link_and_the_next_ones_do_not(own_service: ServiceProcess) -> None:
    port = listen(own_service)
    log = own_service.directory / "service.log"
    own_service.start()
    file = own_service.directory / "mailtoken.set-up-link"
    [first] = re.findall(r"http://127\.0\.0\.1:\d+/setup\?code=[A-Za-z0-9_-]{43}", file.read_text())
    link = own_service.run("administrator", "link")
    assert set_up(port, first, "mallory") == 403
    assert set_up(port, link.stdout.strip(), "anna") == 303
    again = own_service.run("administrator", "link")
    assert (again.returncode, "there are administrators already" in again.stderr) == (5, True)
    own_service.stop()
    own_service.start()
    assert "code=" not in log.read_text()
    assert not file.exists()
    [anna] = json.loads(own_service.done("administrator", "list", "--json"))
    assert anna["roles"] == ["administrator", "operator", "auditor"]
    # What was read at the first start is read at the next one, from the rows.
    assert own_service.run("audit", "verify").returncode == 0


def test_without_a_listener_there_is_no_link(own_service: ServiceProcess) -> None:
    own_service.start()
    done = own_service.run("administrator", "link")
    assert (done.returncode, done.stdout) == (5, "")
    assert "set listen in [server] of the configuration" in done.stderr
    assert not (own_service.directory / "mailtoken.set-up-link").exists()
