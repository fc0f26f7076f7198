import base64
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import command_line
import pytest
from broken_service import answering
from command_line import MAILTOKEN, environment
from service_process import SCAN, ServiceProcess

from adapters.cli.token_show import Wanted, initial_response, read_arguments
from adapters.mail.sasl_client import Mechanism, client_responses
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
    assert "infrastructure.config.paths" in imported
    light = {
        "adapters",
        "adapters.cli",
        "adapters.cli.token_show",
        "adapters.cli.service_socket",
        "adapters.error_kinds",
    }
    ours = {name for name in imported if re.match("adapters|domain|infrastructure", name)}
    assert ours == light | {
        "infrastructure",
        "infrastructure.config",
        "infrastructure.config.paths",
        "infrastructure.unix_peer",
    }
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
    assert responses["xoauth2"] == client_responses(mailbox, "-", 0, Secret("tok"))[Mechanism.XOAUTH2]
    bearer = parse("OAUTHBEARER", responses["oauthbearer"])
    assert (bearer.user, bearer.token) == (mailbox, "tok")


def test_the_access_token_is_alone_on_standard_output(service: ServiceProcess, smtp: str) -> None:
    service.get_token(smtp)
    shown = service.run("token", "show", smtp, forked=False)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.removesuffix("\n") in service.provider.live_access_tokens(SCAN)
    linked = smtp.replace("smtp-service", "smtp-quick")
    assert service.run("token", "show", linked).stdout == shown.stdout


def test_the_full_program_shows_the_same_token(service: ServiceProcess, smtp: str) -> None:
    service.get_token(smtp)
    fast = service.run("token", "show", smtp, "--min-ttl", "10")
    full = service.run("--debug", "token", "show", smtp, "--min-ttl", "10", forked=False)
    assert (full.returncode, full.stdout, full.stderr) == (0, fast.stdout, "")


def test_json_and_sasl_are_for_programs(service: ServiceProcess, pop: str) -> None:
    service.done("profile", "set", pop, "mailbox=scanner@contoso.com")
    service.get_token(pop)
    served = json.loads(service.done("token", "show", pop, "--json"))
    assert set(served) == {"access_token", "expires_at", "account", "mailbox", "sasl"}
    assert (served["account"], served["mailbox"]) == (SCAN, "scanner@contoso.com")
    response = base64.b64decode(service.done("token", "show", pop, "--sasl", "xoauth2"))
    assert response == f"user=scanner@contoso.com\x01auth=Bearer {served['access_token']}\x01\x01".encode()


def test_why_there_is_no_token_is_one_line_and_an_exit_code(service: ServiceProcess, smtp: str) -> None:
    refused = service.run("token", "show", smtp)
    assert (refused.returncode, refused.stdout) == (5, "")
    assert refused.stderr == f"mailtoken: {smtp}: the token is Not Retrieved: get a token first (mailtoken token get)\n"
    for unknown in ("nobody/smtp", "nobody", "/", "a/b/c", "ä/\udcff"):
        missing = service.run("token", "show", unknown)
        assert (missing.returncode, missing.stdout) == (4, "")
        assert missing.stderr.startswith("mailtoken: no profile is called ")


def test_more_life_than_a_token_ever_has_is_a_usage_error(service: ServiceProcess, smtp: str) -> None:
    service.get_token(smtp)
    refused = service.run("token", "show", smtp, "--min-ttl", "3601")
    assert refused.returncode == 2
    assert "3600 seconds" in refused.stderr


def test_the_configuration_is_found_by_option_by_environment_and_where_one_is(
    service: ServiceProcess, tmp_path: Path
) -> None:
    config = str(service.directory / "mailtoken.toml")
    ways: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
        (("--config", config), {}),
        (("token", "show", "nobody/smtp", f"--config={config}"), {}),
        ((), {"MAILTOKEN_CONFIG": config}),
    )
    for arguments, more in ways:
        asked = arguments if "token" in arguments else (*arguments, "token", "show", "nobody/smtp")
        assert command_line.run(*asked, cwd=tmp_path, **more).returncode == 4
    assert command_line.run("token", "show", "nobody/smtp", cwd=service.directory).returncode == 4
    nowhere = command_line.run("token", "show", "nobody/smtp", cwd=tmp_path, XDG_CONFIG_HOME=str(tmp_path))
    assert nowhere.returncode == 2
    assert "run mailtoken init" in nowhere.stderr


def test_without_a_service_it_says_where_nobody_answers(own_service: ServiceProcess) -> None:
    alone = own_service.run("token", "show", "office-mfp/smtp")
    assert (alone.returncode, alone.stdout) == (6, "")
    assert alone.stderr == (
        f"mailtoken: the service is not running (no answer at {own_service.socket}): start it with mailtoken serve\n"
    )


def test_a_socket_deep_in_the_tree_is_reached(own_service: ServiceProcess) -> None:
    deep = own_service.directory / ("a" * 60) / ("b" * 60)
    deep.mkdir(parents=True)
    config = own_service.directory / "mailtoken.toml"
    config.write_text(config.read_text().replace('"mailtoken.sock"', f'"{deep / "mailtoken.sock"}"'))
    own_service.start()
    assert own_service.run("token", "show", "nobody/smtp").returncode == 4
    assert own_service.run("machine", "list").returncode == 0


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\n\r\n{", b"nonsense\r\n\r\n", b"HTTP/1.1 500 E\r\n\r\n<html>"]
)
def test_a_service_that_breaks_off_is_not_believed(own_service: ServiceProcess, answer: bytes) -> None:
    with answering(own_service.socket, answer):
        broken = own_service.run("token", "show", "office-mfp/smtp")
    assert (broken.returncode, broken.stdout) == (1 if b"500" in answer else 6, "")
    assert broken.stderr.startswith("mailtoken: the service ")
    assert broken.stderr.count("\n") == 1


def test_nothing_is_said_when_nobody_reads(service: ServiceProcess, smtp: str) -> None:
    service.get_token(smtp)
    for command in (("token", "show", smtp), ("status",), ("audit", "export")):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [MAILTOKEN, *command],
            cwd=service.directory,
            stdout=writing,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
        )
        os.close(writing)
        assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.needs("root")
def test_whoever_may_not_use_the_socket_is_told_who_says_so(service: ServiceProcess) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "mailtoken.toml").write_text("")
        socket_path = directory / "mailtoken.sock"
        program = (
            "import os, socket, sys\n"
            "from adapters.cli import token_show\n"
            f"socket.socket(socket.AF_UNIX).bind({str(socket_path)!r})\n"
            f"os.chmod({str(socket_path)!r}, 0o660)\n"
            f"os.chmod({name!r}, 0o755)\n"
            "os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
            f"sys.exit(token_show.run(token_show.Wanted('a/b', config={str(directory / 'mailtoken.toml')!r})))\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert (
        done.stderr
        == f"mailtoken: you may not use {socket_path}: [socket] in the service's configuration says who may\n"
    )
