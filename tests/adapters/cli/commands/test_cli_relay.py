"""`mailtoken relay user`: who may use the relay. A password is typed unseen, piped in or made; never an argument."""

import json
import socket
from typing import Any

import pytest
from pseudo_terminal import CTRL_C, PseudoTerminal
from service_process import ServiceProcess

PASSWORD = "a-relay-password"
USERS = ("relay", "user")


@pytest.fixture
def user(service: ServiceProcess, smtp: str) -> str:
    """A relay user of the machine's SMTP setting, with a password."""
    name = smtp.replace("/", "-")
    added = service.run(*USERS, "add", name, smtp, message=f"{PASSWORD}\n")
    assert (added.returncode, added.stdout) == (0, f"Relay user {name} is added.\n"), added.stderr
    return name


@pytest.fixture(scope="module")
def settled_user(service: ServiceProcess) -> str:
    """A relay user with a password, whom no test changes: hashing a password takes long, as it should."""
    added = service.run(*USERS, "add", "settled", service.add_printer("settled"), message=f"{PASSWORD}\n")
    assert added.returncode == 0, added.stderr
    return "settled"


def listed(service: ServiceProcess, name: str) -> dict[str, Any]:
    users = {one["name"]: one for one in json.loads(service.done(*USERS, "list", "--json"))}
    found: dict[str, Any] = users[name]
    return found


def is_let_in(service: ServiceProcess, name: str, password: str) -> bool:
    """Whether the service lets this user in, as the relay asks it. There is no token yet, which it says then."""
    body = json.dumps({"protocol": "smtp", "address": "192.0.2.7", "user": name, "password": password})
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(service.socket))
        head = "POST /api/v1/relay/admissions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall((head + body).encode())
        status = int(connection.makefile().read().split()[1])
    assert status in (403, 409)
    return status == 409


def test_a_user_is_added_with_a_password_from_standard_input(service: ServiceProcess, user: str, smtp: str) -> None:
    assert listed(service, user) == {
        "name": user,
        "profiles": {"smtp": smtp},
        "networks": [],
        "password": True,
        "sender": None,
        "normalize": None,
    }
    assert is_let_in(service, user, PASSWORD)
    assert not is_let_in(service, user, "another-password")


def test_a_user_with_networks_needs_no_password(service: ServiceProcess, smtp: str, pop: str) -> None:
    name = smtp.replace("/", "+")
    networks = ("--network", "10.20.30.0/24", "--network", "2001:db8:1::/48")
    refused = service.run(*USERS, "add", name, smtp, pop, *networks)
    assert (refused.returncode, refused.stdout) == (5, "")
    assert "POP3 and IMAP clients always sign in, from every network: give them a password too" in refused.stderr
    assert service.done(*USERS, "add", name, smtp, *networks) == f"Relay user {name} is added.\n"
    assert listed(service, name) == {
        "name": name,
        "profiles": {"smtp": smtp},
        "networks": ["10.20.30.0/24", "2001:db8:1::/48"],
        "password": False,
        "sender": None,
        "normalize": None,
    }
    service.done(*USERS, "networks", name, "10.77.0.0/16")
    assert listed(service, name)["networks"] == ["10.77.0.0/16"]
    refused = service.run(*USERS, "networks", name)
    assert (refused.returncode, refused.stdout) == (5, "")
    assert refused.stderr == f"mailtoken: relay user {name} needs a password or a network to be let in by\n"
    service.done(*USERS, "remove", name)


def test_a_generated_password_is_printed_once_and_works(service: ServiceProcess, smtp: str) -> None:
    name = smtp.replace("/", "=")
    added = service.run(*USERS, "add", name, smtp, "--generate")
    assert added.stderr == f"Relay user {name} is added. The password, shown this once:\n"
    password = added.stdout.strip()
    assert is_let_in(service, name, password)
    newer = service.done(*USERS, "password", name, "--generate").strip()
    assert len({password, newer}) == 2
    assert (is_let_in(service, name, password), is_let_in(service, name, newer)) == (False, True)
    shown_later = service.done(*USERS, "list", "--json") + service.done("audit", "log", "--json")
    log = (service.directory / "service.log").read_text()
    for secret in (password, newer, PASSWORD):
        assert secret not in shown_later + log


def test_a_password_is_typed_twice_and_never_seen(service: ServiceProcess, user: str) -> None:
    with PseudoTerminal(service.directory, [*USERS, "password", user]) as terminal:
        for typed, asked in (("typed-unseen-1", "New password: "), ("mistyped-unseen", "Repeat for confirmation: ")):
            terminal.wait_for(asked)
            terminal.press(f"{typed}\n")
        at = terminal.wait_for("do not match")
        for asked in ("New password: ", "Repeat for confirmation: "):
            at = terminal.wait_for(asked, at)
            terminal.press("typed-unseen-1\n")
        terminal.wait_for("has a new password")
        assert terminal.end() == 0
        assert "unseen" not in terminal.raw
    assert is_let_in(service, user, "typed-unseen-1")


def test_somebody_who_does_not_type_a_password_changes_nothing(service: ServiceProcess, settled_user: str) -> None:
    with PseudoTerminal(service.directory, [*USERS, "password", settled_user]) as terminal:
        terminal.wait_for("New password: ")
        terminal.press(CTRL_C)
        terminal.wait_for("mailtoken: no password was given: nothing was changed")
        assert terminal.end() == 1
    assert is_let_in(service, settled_user, PASSWORD)


@pytest.mark.parametrize(
    "message", [b"", b"\n", b"one-password-line\nand-another-line\n", b"not-utf-8-\xff-password\n"]
)
def test_standard_input_that_is_not_one_line_is_no_password(
    service: ServiceProcess, settled_user: str, message: bytes
) -> None:
    refused = service.run(*USERS, "password", settled_user, message=message)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        "mailtoken: standard input is not one line with the password: give one line, or use --generate\n"
    )
    assert is_let_in(service, settled_user, PASSWORD)


def test_a_user_can_be_mapped_to_other_settings_and_removed(service: ServiceProcess, user: str, pop: str) -> None:
    assert service.done(*USERS, "map", user, pop) == f"Relay user {user} uses {pop}.\n"
    assert listed(service, user)["profiles"] == {"pop": pop}
    assert service.done(*USERS, "remove", user) == f"Relay user {user} is removed.\n"
    assert user not in service.done(*USERS, "list")
    gone = service.run(*USERS, "remove", user)
    assert gone.returncode == 4
    assert gone.stderr == f"mailtoken: no relay user is called {user!r}: see mailtoken relay user list\n"


def test_the_list_is_a_table_for_people(service: ServiceProcess, user: str, smtp: str) -> None:
    service.done(*USERS, "networks", user, "10.99.0.0/16")
    head, *lines = service.done(*USERS, "list").splitlines()
    assert head.split() == ["User", "Settings", "Password", "Networks"]
    assert [user, smtp, "yes", "10.99.0.0/16"] in [line.split() for line in lines]
    service.done(*USERS, "networks", user)
    assert [user, smtp, "yes", "-"] in [line.split() for line in service.done(*USERS, "list").splitlines()]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("add", "two words", "{smtp}"), 2, "user: 'two words' is not 1 to 64 printable characters"),
        (("add", "new", "{smtp}", "{smtp}-quick"), 4, "no profile is called"),
        (("add", "new", "{smtp}", "--network", "0.0.0.0/0"), 2, "network: 0.0.0.0/0 is too wide"),
        (("add", "{user}", "{smtp}"), 5, "there is a relay user with this name already"),
        (("add", "new"), 2, "Missing argument 'PROFILE'"),
        (("map", "ghost", "{smtp}"), 4, "no relay user is called 'ghost'"),
        (("password", "a/b"), 4, "no relay user is called 'a/b'"),
        (("remove", ""), 4, "no relay user is called ''"),
    ],
)
def test_what_cant_be_done_is_told_in_one_line(
    service: ServiceProcess, settled_user: str, smtp: str, arguments: tuple[str, ...], code: int, said: str
) -> None:
    filled = [argument.format(user=settled_user, smtp=smtp) for argument in arguments]
    refused = service.run(*USERS, *filled, message=f"{PASSWORD}\n")
    assert (refused.returncode, refused.stdout) == (code, "")
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_password_that_is_too_short_is_refused_and_not_repeated(service: ServiceProcess, settled_user: str) -> None:
    refused = service.run(*USERS, "password", settled_user, message="hunter2\n")
    assert refused.returncode == 2
    assert refused.stderr == (
        "mailtoken: password: a password has 12 to 255 characters, spaces included, and no control characters\n"
    )


def test_the_record_tells_what_happened_to_a_user_in_sentences(
    service: ServiceProcess, user: str, smtp: str, pop: str
) -> None:
    service.done(*USERS, "networks", user, "10.88.0.0/16")
    service.done(*USERS, "networks", user)
    service.done(*USERS, "map", user, pop)
    service.done(*USERS, "remove", user)
    told = [
        line.partition(f"relay user {user}")[2].strip()
        for line in service.done("audit", "log").splitlines()
        if f"  relay user {user}  " in line
    ]
    assert told == [
        f"relay user {user} added",
        f"smtp mail goes through {smtp}",
        "new password",
        "let in without a sign-in from 10.88.0.0/16",
        "let in without a sign-in from nowhere",
        "smtp mail is not relayed any more",
        f"pop mail goes through {pop}",
        "relay user removed",
    ]
    of_the_setting = service.done("audit", "log", smtp)
    assert "smtp mail is not relayed any more" in of_the_setting
    assert "pop mail goes through" not in of_the_setting


def test_without_the_service_users_cant_be_managed(own_service: ServiceProcess) -> None:
    done = own_service.run(*USERS, "list")
    assert done.returncode == 6
    assert "start it with mailtoken serve" in done.stderr


def test_a_group_without_a_command_shows_its_help(service: ServiceProcess) -> None:
    assert "Who may use the relay" in service.run(*USERS).stdout


def test_a_devices_messages_are_put_right(service: ServiceProcess, settled_user: str) -> None:
    done = service.done(*USERS, "set", settled_user, "sender=scan@contoso.com", "normalize=crlf")
    assert done == f"Relay user {settled_user}: sender=scan@contoso.com, normalize=crlf.\n"
    found = listed(service, settled_user)
    assert (found["sender"], found["normalize"]) == ("scan@contoso.com", "crlf")
    service.done(*USERS, "set", settled_user, "sender=", "normalize=")
    found = listed(service, settled_user)
    assert (found["sender"], found["normalize"]) == (None, None)
    assert service.run(*USERS, "set", settled_user, "size=10").returncode == 2
    assert service.run(*USERS, "set", settled_user, "normalize=lf").returncode == 2


def test_the_refusals_say_what_to_set_at_the_panel(service: ServiceProcess) -> None:
    assert "refused no client" in service.done("relay", "refusals", "192.0.2.99")
    report = {
        "at": "2026-11-22T10:30:00.000000+00:00",
        "address": "192.0.2.99",
        "protocol": "smtp",
        "user": "printers",
        "commands": ["EHLO printer", "MAIL FROM:<printer@local>"],
        "cause": "sender",
        "why": "550 5.7.60 not allowed",
    }
    body = json.dumps({"refusals": [report]})
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(service.socket))
        head = "POST /api/v1/relay/refusals HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall((head + body).encode())
        assert connection.makefile().read().split()[1] == "204"
    lines = service.done("relay", "refusals", "192.0.2.99").splitlines()
    assert lines[0].split() == ["2026-11-22T10:30:00.000000+00:00", "printers", "at", "192.0.2.99", "smtp"]
    assert "sent  MAIL FROM:<printer@local>" in lines
    assert "mailtoken relay user set NAME sender=ADDRESS" in lines[-1]
    [shown] = json.loads(service.done("relay", "refusals", "192.0.2.99", "--json"))
    assert shown["why"] == "550 5.7.60 not allowed"
