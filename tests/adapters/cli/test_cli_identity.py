"""`mailtoken client` and `mailtoken administrator`, against a service that listens on loopback too."""

import http.client
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from mailtoken_house import House
from ports import free_port

CHANGED = 7
PASSWORD = "a-password-in-clear"
SMTP = "office-mfp/smtp-service"


def listen(house: House) -> int:
    """Have its service listen on loopback from its next start on; the port."""
    port = free_port()
    config = house.directory / "mailtoken.toml"
    config.write_text(config.read_text().replace("[server]\n", f'[server]\nlisten = "127.0.0.1:{port}"\n', 1))
    return port


@pytest.fixture(scope="module")
def open_house(world: Callable[[Path], House], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, int]]:
    """A house that listens, with a token in it, and its port."""
    house = world(tmp_path_factory.mktemp("open") / "house")
    port = listen(house)
    house.start()
    house.get_token(house.add_printer())
    yield house, port
    house.stop()


def ask(port: int, method: str, target: str, body: str | None = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request(method, target, body, headers)
    answer = connection.getresponse()
    read = answer.status, answer.read().decode()
    connection.close()
    return read


def access_token(port: int, key: str, profile: str = SMTP) -> int:
    return ask(port, "GET", f"/api/v1/profiles/{profile}/access-token", Authorization=f"Bearer {key}")[0]


def lines_of_clients(house: House) -> list[str]:
    return [" ".join(line.split()) for line in house.done("client", "list").splitlines()]


def set_up(port: int, link: str, name: str) -> int:
    code = urlsplit(link).query.partition("=")[2]
    form = urlencode({"code": code, "name": name, "password": PASSWORD, "repeated": PASSWORD})
    return ask(port, "POST", "/setup", form, **{"Content-Type": "application/x-www-form-urlencoded"})[0]


# Clients


def test_a_key_is_printed_alone_and_once_and_reads_what_was_granted(open_house: tuple[House, int]) -> None:
    house, port = open_house
    added = house.run("client", "add", "backup", "--profile", SMTP)
    key = added.stdout.removesuffix("\n")
    assert re.fullmatch(r"[a-z2-7]{16}\.[A-Za-z0-9_-]{43}", key)
    assert "Client backup is added." in added.stderr
    assert access_token(port, key) == 200
    assert access_token(port, key, "office-mfp/pop-internet-fax") == 403
    house.done("client", "grant", "backup", "office-mfp/pop-internet-fax")
    assert access_token(port, key, "office-mfp/pop-internet-fax") == 409
    house.done("client", "revoke", "backup", "office-mfp/pop-internet-fax")
    [listed] = [one for one in json.loads(house.done("client", "list", "--json")) if one["name"] == "backup"]
    assert (listed["profiles"], listed["expires_at"], listed["key_id"]) == ([SMTP], None, key.partition(".")[0])
    assert listed["used_at"]
    assert key.partition(".")[2] not in house.done("client", "list") + house.done("audit", "export")
    newer = house.done("client", "key", "backup").strip()
    assert (access_token(port, key), access_token(port, newer)) == (401, 200)
    house.done("client", "revoke", "backup")
    assert access_token(port, newer) == 401


def test_a_key_ends_with_the_day_it_was_given(open_house: tuple[House, int]) -> None:
    house, _ = open_house
    house.done("client", "add", "guest", "--expires", "2099-12-31")
    [listed] = [one for one in json.loads(house.done("client", "list", "--json")) if one["name"] == "guest"]
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
    open_house: tuple[House, int], words: tuple[str, ...], code: int, said: str
) -> None:
    done = open_house[0].run("client", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert done.stderr.startswith(f"mailtoken: {said}")


@pytest.mark.parametrize("ending", ["toml", "yaml"])
def test_clients_go_to_another_store_in_a_file_and_their_keys_do_not(
    open_house: tuple[House, int], own_house: House, ending: str
) -> None:
    house, _ = open_house
    house.done("client", "add", f"moving-{ending}", "--profile", SMTP)
    exported = house.done("export", "--format", ending)
    port, file = listen(own_house), own_house.directory / f"fleet.{ending}"
    file.write_text(exported)
    own_house.start()
    applied = own_house.run("apply", str(file), "--yes", "--detailed-exit-code")
    said = f"+ client moving-{ending}, without a key: mailtoken client key moving-{ending} makes one"
    assert (applied.returncode, said in applied.stdout.splitlines()) == (CHANGED, True)
    assert own_house.done("export", "--format", ending) == exported
    assert own_house.run("apply", str(file), "--detailed-exit-code").returncode == 0
    assert f"moving-{ending} {SMTP} no key yet -" in lines_of_clients(own_house)
    assert access_token(port, "None.") == 401
    key = own_house.done("client", "key", f"moving-{ending}").strip()
    assert access_token(port, key) == 409, "it may read the token, and there is none yet"
    assert not any("no key yet" in line for line in lines_of_clients(own_house) if line.startswith("moving-{ending}"))
    assert own_house.run("audit", "verify").returncode == 0


def test_who_reads_a_token_on_the_socket_is_on_record_as_a_client_too(open_house: tuple[House, int]) -> None:
    house, _ = open_house
    for _ in range(3):
        house.done("token", "show", SMTP)
    told = [json.loads(line) for line in house.done("audit", "export").splitlines()]
    here = [one for one in told if one["aggregate"] == "Reader" and one["by"] == "client:root"]
    assert [(one["event"], one["facts"]["generation"]) for one in here] == [("Created", 1)]
    assert (
        f"access token handed out through {SMTP}, for the first time"
        in house.run("audit", "log", SMTP, COLUMNS="200").stdout
    )


# Administrators


def test_an_administrator_is_added_with_a_password_or_with_a_link(open_house: tuple[House, int]) -> None:
    house, port = open_house
    added = house.run("administrator", "add", "anna", "--role", "operator", message=f"{PASSWORD}\n")
    assert (added.returncode, added.stdout) == (0, "anna is added.\n")
    linked = house.run("administrator", "add", "bob", "--role", "auditor", "--role", "administrator", "--link")
    assert linked.stdout.startswith(f"http://127.0.0.1:{port}/setup?code=")
    assert set_up(port, linked.stdout.strip(), "") == 303
    assert set_up(port, linked.stdout.strip(), "") == 403
    house.done("administrator", "roles", "anna", "--role", "auditor")
    assert json.loads(house.done("administrator", "list", "--json")) == [
        {"name": "anna", "roles": ["auditor"], "password": True},
        {"name": "bob", "roles": ["administrator", "auditor"], "password": True},
    ]
    again = house.run("administrator", "password", "anna", message="another-password\n")
    assert (again.returncode, again.stdout) == (0, "anna has a new password.\n")
    house.done("administrator", "remove", "anna")
    assert "bob" in house.done("administrator", "list")
    assert PASSWORD not in house.done("audit", "export")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("add", "x", "--role", "client", "--link"), 2, "roles: client: a person is one or more of"),
        (("add", "x@contoso.com", "--role", "operator", "--link"), 2, "administrator: 'x@contoso.com' is not a name"),
        (("add", "x"), 2, "Missing option '--role'"),
        (("link", "ghost"), 4, "no administrator is called 'ghost': see mailtoken administrator list"),
        (("remove", "ghost"), 4, "no administrator is called 'ghost'"),
        (("roles", "a/b", "--role", "operator"), 4, "no administrator is called 'a/b'"),
    ],
)
def test_what_cant_be_done_with_administrators_says_why(
    open_house: tuple[House, int], words: tuple[str, ...], code: int, said: str
) -> None:
    done = open_house[0].run("administrator", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert done.stderr.startswith(f"mailtoken: {said}")


def test_the_first_start_gives_a_link_and_the_next_ones_do_not(own_house: House) -> None:
    port = listen(own_house)
    log = own_house.directory / "service.log"
    own_house.start()
    [first] = re.findall(r"http://127\.0\.0\.1:\d+/setup\?code=[A-Za-z0-9_-]{43}", log.read_text())
    link = own_house.run("administrator", "link")
    assert set_up(port, first, "mallory") == 403
    assert set_up(port, link.stdout.strip(), "anna") == 303
    again = own_house.run("administrator", "link")
    assert (again.returncode, "there are administrators already" in again.stderr) == (5, True)
    own_house.stop()
    before = log.stat().st_size
    own_house.start()
    assert "code=" not in log.read_text()[before:]
    [anna] = json.loads(own_house.done("administrator", "list", "--json"))
    assert anna["roles"] == ["administrator", "operator", "auditor"]
    # What was read at the first start is read at the next one, from the rows.
    assert own_house.run("audit", "verify").returncode == 0


def test_without_a_listener_there_is_no_link(own_house: House) -> None:
    own_house.start()
    done = own_house.run("administrator", "link")
    assert (done.returncode, done.stdout) == (5, "")
    assert "set listen in [server] of the configuration" in done.stderr
    assert "code=" not in (own_house.directory / "service.log").read_text()
