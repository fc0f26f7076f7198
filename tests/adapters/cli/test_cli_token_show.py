import base64
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from mailtoken_house import MAILTOKEN, SCAN, House, environment, mailtoken

from adapters.cli.show import Wanted, initial_response, read_arguments
from adapters.mail.sasl import Mechanism, client_response
from adapters.practice.sasl import parse
from domain.secret import Secret


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("token show a/b", Wanted("a/b")),
        ("token show a/b --json", Wanted("a/b", json=True)),
        ("token show --min-ttl 900 a/b", Wanted("a/b", min_ttl="900")),
        ("token show a/b --min-ttl=900 --sasl=xoauth2", Wanted("a/b", min_ttl="900", sasl="xoauth2")),
        ("--config x.toml token show a/b", Wanted("a/b", config="x.toml")),
        ("token show a/b --config=x.toml", Wanted("a/b", config="x.toml")),
    ],
)
def test_the_fast_path_reads_what_it_knows(line: str, wanted: Wanted) -> None:
    assert read_arguments(line.split()) == wanted


@pytest.mark.parametrize(
    "line",
    [
        "",
        "token show",
        "token show --help",
        "token show a/b c/d",
        "token show a/b --min-ttl",
        "token show a/b --min-ttl -1",
        "token show a/b --min-ttl soon",
        "token show a/b --min-ttl ²",
        "token show a/b --sasl plain",
        "token show a/b --sasl xoauth2 --json",
        "token show -- a/b",
        "--debug token show a/b",
        "--config= token show a/b",
        "token renew a/b",
        "status a/b",
    ],
)
def test_the_fast_path_leaves_everything_else_to_the_full_program(line: str) -> None:
    assert read_arguments(line.split()) is None


def test_the_fast_path_imports_nothing_heavy(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", MAILTOKEN, "token", "show", "a/b"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert "infrastructure.locate" in imported
    light = {"adapters", "adapters.cli", "adapters.cli.show", "adapters.cli.wire"}
    ours = {name for name in imported if re.match("adapters|domain|infrastructure", name)}
    assert ours == light | {"infrastructure", "infrastructure.locate"}
    assert not imported & {
        "typer",
        "rich",
        "pydantic",
        "http.client",
        "dataclasses",
        "inspect",
        "email",
        "ssl",
        "logging",
    }


@pytest.mark.parametrize("mailbox", [SCAN, "o=hara,x@contoso.com"])
def test_an_initial_response_says_who_and_carries_the_token(mailbox: str) -> None:
    responses = {name: base64.b64decode(initial_response(name, mailbox, "tok")) for name in ("xoauth2", "oauthbearer")}
    assert responses["xoauth2"] == client_response(Mechanism.XOAUTH2, mailbox, "-", 0, Secret("tok"))
    bearer = parse("OAUTHBEARER", responses["oauthbearer"])
    assert (bearer.user, bearer.token) == (mailbox, "tok")


def test_the_access_token_is_alone_on_standard_output(house: House, smtp: str) -> None:
    house.get_token(smtp)
    shown = house.run("token", "show", smtp)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.removesuffix("\n") in house.provider.live_access_tokens(SCAN)
    linked = smtp.replace("smtp-service", "smtp-quick")
    assert house.run("token", "show", linked).stdout == shown.stdout


def test_the_full_program_shows_the_same_token(house: House, smtp: str) -> None:
    house.get_token(smtp)
    fast = house.run("token", "show", smtp, "--min-ttl", "10")
    full = house.run("--debug", "token", "show", smtp, "--min-ttl", "10")
    assert (full.returncode, full.stdout, full.stderr) == (0, fast.stdout, "")


def test_json_and_sasl_are_for_programs(house: House, pop: str) -> None:
    house.done("profile", "set", pop, "mailbox=scanner@contoso.com")
    house.get_token(pop)
    served = json.loads(house.done("token", "show", pop, "--json"))
    assert set(served) == {"access_token", "expires_at", "account", "mailbox", "sasl"}
    assert (served["account"], served["mailbox"]) == (SCAN, "scanner@contoso.com")
    response = base64.b64decode(house.done("token", "show", pop, "--sasl", "xoauth2"))
    assert response == f"user=scanner@contoso.com\x01auth=Bearer {served['access_token']}\x01\x01".encode()


def test_why_there_is_no_token_is_one_line_and_an_exit_code(house: House, smtp: str) -> None:
    refused = house.run("token", "show", smtp)
    assert (refused.returncode, refused.stdout) == (5, "")
    assert refused.stderr == f"mailtoken: {smtp}: the token is Not Retrieved: get a token first (mailtoken token get)\n"
    for unknown in ("nobody/smtp", "nobody", "/", "a/b/c", "ä/\udcff"):
        missing = house.run("token", "show", unknown)
        assert (missing.returncode, missing.stdout) == (4, "")
        assert missing.stderr.startswith("mailtoken: no profile is called ")


def test_more_life_than_a_token_ever_has_is_a_usage_error(house: House, smtp: str) -> None:
    house.get_token(smtp)
    refused = house.run("token", "show", smtp, "--min-ttl", "3601")
    assert refused.returncode == 2
    assert "3600 seconds" in refused.stderr


def test_the_configuration_is_found_by_option_by_environment_and_where_one_is(house: House, tmp_path: Path) -> None:
    config = str(house.directory / "mailtoken.toml")
    for arguments, more in (
        (("--config", config), {}),
        (("token", "show", "nobody/smtp", f"--config={config}"), {}),
        ((), {"MAILTOKEN_CONFIG": config}),
    ):
        asked = arguments if "token" in arguments else (*arguments, "token", "show", "nobody/smtp")
        assert mailtoken(*asked, cwd=tmp_path, **more).returncode == 4
    assert mailtoken("token", "show", "nobody/smtp", cwd=house.directory).returncode == 4
    nowhere = mailtoken("token", "show", "nobody/smtp", cwd=tmp_path, XDG_CONFIG_HOME=str(tmp_path))
    assert nowhere.returncode == 2
    assert "run mailtoken init" in nowhere.stderr


def test_without_a_service_it_says_where_nobody_answers(own_house: House) -> None:
    alone = own_house.run("token", "show", "office-mfp/smtp")
    assert (alone.returncode, alone.stdout) == (6, "")
    assert alone.stderr == (
        f"mailtoken: the service is not running (no answer at {own_house.socket}): start it with mailtoken serve\n"
    )


def test_a_socket_deep_in_the_tree_is_reached(own_house: House) -> None:
    deep = own_house.directory / ("a" * 60) / ("b" * 60)
    deep.mkdir(parents=True)
    config = own_house.directory / "mailtoken.toml"
    config.write_text(config.read_text().replace('"mailtoken.sock"', f'"{deep / "mailtoken.sock"}"'))
    own_house.start()
    assert own_house.run("token", "show", "nobody/smtp").returncode == 4
    assert own_house.run("machine", "list").returncode == 0


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\n\r\n{", b"nonsense\r\n\r\n", b"HTTP/1.1 500 E\r\n\r\n<html>"]
)
def test_a_service_that_breaks_off_is_not_believed(own_house: House, answer: bytes) -> None:
    listener = own_house.listen(answer)
    broken = own_house.run("token", "show", "office-mfp/smtp")
    listener.join()
    assert (broken.returncode, broken.stdout) == (1 if b"500" in answer else 6, "")
    assert broken.stderr.startswith("mailtoken: the service ")
    assert broken.stderr.count("\n") == 1


def test_nothing_is_said_when_nobody_reads(house: House, smtp: str) -> None:
    house.get_token(smtp)
    for command in (("token", "show", smtp), ("status",), ("audit", "export")):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [MAILTOKEN, *command],
            cwd=house.directory,
            stdout=writing,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
        )
        os.close(writing)
        assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_whoever_may_not_use_the_socket_is_told_who_says_so(house: House) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "mailtoken.toml").write_text("")
        house_socket = directory / "mailtoken.sock"
        program = (
            "import os, socket, sys\n"
            "from adapters.cli import show\n"
            f"socket.socket(socket.AF_UNIX).bind({str(house_socket)!r})\n"
            f"os.chmod({str(house_socket)!r}, 0o660)\n"
            f"os.chmod({name!r}, 0o755)\n"
            "os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
            f"sys.exit(show.run(show.Wanted('a/b', config={str(directory / 'mailtoken.toml')!r})))\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert (
        done.stderr
        == f"mailtoken: you may not use {house_socket}: [socket] in the service's configuration says who may\n"
    )
