"""What needs no service: usage, exit codes, `init`, the guard at start-up, and reading the store alone."""

import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import command_line
import pytest
from broken_service import answering
from service_process import ServiceProcess

from adapters.cli.app import global_options_anywhere


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nonsense", "No such command 'nonsense'"),
        ("token get", "Missing argument 'PROFILE': see mailtoken token get --help"),
        ("status --nonsense", "No such option: --nonsense"),
        ("token show a/b --min-ttl soon", "--min-ttl"),
        ("token show a/b --sasl plain", "'plain' is not xoauth2 or oauthbearer"),
        ("token show a/b --sasl xoauth2 --json", "don't go together"),
        ("status --as-of yesterday", "'yesterday' is not an ISO 8601 instant"),
        ("status --as-of 0001-01-01T00:00:00+14:00", "is not an ISO 8601 instant"),
        ("status --watch --json", "--watch can't be combined with"),
        ("profile set a/b port", "'port' is not field=value"),
        ("profile set a/b =587", "'=587' is not field=value"),
        ("profile set a/b port=1 port=2", "port is given twice"),
        ("token get a/b", "say --yes"),
        ("token delete a/b", "say --yes"),
        ("--config nowhere.toml status", "no configuration at nowhere.toml"),
        ("status --config nowhere.toml", "no configuration at nowhere.toml"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_code_2(own_service: ServiceProcess, line: str, said: str) -> None:
    done = own_service.run(*line.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mailtoken: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_a_command_the_help_is_shown(tmp_path: Path) -> None:
    for line in ((), ("token",), ("--help",), ("token", "get", "--help")):
        done = command_line.run(*line, cwd=tmp_path)
        assert "Usage: mailtoken" in done.stdout
        assert done.stderr == ""


def test_a_command_that_asks_the_service_loads_neither_store_nor_cryptography() -> None:
    program = (
        "import sys, adapters.cli.app; print(sorted({'cryptography', 'eventsourcing', 'sqlite3'} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout == "[]\n"


def test_the_version_is_shown(tmp_path: Path) -> None:
    done = command_line.run("--version", cwd=tmp_path, forked=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("mailtoken 0.")


def test_general_options_may_stand_anywhere_but_behind_two_hyphens() -> None:
    arguments = ["test", "--config", "x", "a/b", "--debug", "--", "--debug"]
    assert global_options_anywhere(arguments) == (["--config", "x", "--debug"], ["test", "a/b", "--", "--debug"])
    assert global_options_anywhere(["status", "--config=x"]) == (["--config=x"], ["status"])
    assert global_options_anywhere(["status", "--config"]) == (["--config"], ["status"])


def test_words_behind_send_choose_no_configuration(tmp_path: Path) -> None:
    injected = ["send", "-f", "web@example.org", "--config=/tmp/theirs.toml", "a@b"]
    assert global_options_anywhere(["--config", "ours.toml", *injected]) == (["--config", "ours.toml"], injected)
    done = command_line.run(*injected, cwd=tmp_path, message="Subject: x\n\nx\n", forked=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--config" in done.stderr


def test_a_traceback_is_shown_only_when_asked_for(own_service: ServiceProcess) -> None:
    plain, debug = own_service.run("machine", "list"), own_service.run("machine", "list", "--debug")
    assert "Traceback" not in plain.stderr
    assert "Traceback" in debug.stderr
    assert debug.stderr.endswith(plain.stderr)
    assert plain.returncode == debug.returncode == 6


def test_an_error_that_nobody_foresaw_is_one_line_too(own_service: ServiceProcess) -> None:
    with answering(own_service.socket, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"):
        done = own_service.run("profile", "show", "office-mfp/smtp")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("mailtoken: unexpected AttributeError")
    assert done.stderr.endswith("--debug shows more\n")
    assert done.stderr.count("\n") == 1


def test_a_configuration_that_is_missing_is_named_with_what_to_do(tmp_path: Path) -> None:
    named = command_line.run("status", "--config", "nowhere.toml", cwd=tmp_path)
    assert named.stderr == (
        "mailtoken: there is no configuration at nowhere.toml: run mailtoken init, or correct the path\n"
    )
    searched = command_line.run("status", cwd=tmp_path, XDG_CONFIG_HOME=str(tmp_path / "home"))
    assert searched.stderr == (
        f"mailtoken: there is no mailtoken.toml in {tmp_path}, {tmp_path}/home/mailtoken, /etc/mailtoken:"
        " run mailtoken init, or name it with --config\n"
    )
    assert (named.returncode, searched.returncode) == (2, 2)


# Packages in the place of ours


@pytest.mark.parametrize("room", ["domain", "infrastructure"])
@pytest.mark.parametrize("command", [("status",), ("token", "show", "a/b"), ("--help",)])
def test_a_package_in_the_place_of_ours_is_named(tmp_path: Path, room: str, command: tuple[str, ...]) -> None:
    shadow = tmp_path / "elsewhere" / room
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").write_text("")
    done = command_line.run(*command, cwd=tmp_path, forked=False, PYTHONPATH=str(shadow.parent))
    if (room, command[0]) == ("domain", "token"):
        assert "no mailtoken.toml" in done.stderr
        return
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"mailtoken: {shadow} is in the place of its own package ")
    assert f"take {shadow.parent} off PYTHONPATH" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_module_in_the_place_of_a_package_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "infrastructure.py").write_text("")
    done = command_line.run("token", "show", "a/b", cwd=tmp_path, forked=False, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith(f"mailtoken: {tmp_path / 'infrastructure.py'} is in the place of ")


# The store, without the service


def test_init_makes_everything_once_and_overwrites_nothing(tmp_path: Path) -> None:
    made = command_line.run("init", cwd=tmp_path, forked=False)
    assert made.returncode == 0
    names = ("mailtoken.toml", "mailtoken.key", "mailtoken.db")
    assert all(str(tmp_path / name) in made.stdout for name in names)
    before = [(tmp_path / name).read_bytes() for name in names]
    again = command_line.run("init", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (5, "")
    assert again.stderr == f"mailtoken: {tmp_path} is initialised already: nothing was changed\n"
    assert [(tmp_path / name).read_bytes() for name in names] == before


@pytest.mark.parametrize("how", ["option", "environment", "argument"])
def test_init_goes_where_it_is_told(tmp_path: Path, how: str) -> None:
    there = tmp_path / "there"
    file = str(there / "mailtoken.toml")
    line = {"option": ("init", "--config", file), "environment": ("init",), "argument": ("init", str(there))}[how]
    more: dict[str, Any] = {"MAILTOKEN_CONFIG": file} if how == "environment" else {}
    done = command_line.run(*line, cwd=tmp_path, **more)
    assert (done.returncode, done.stderr) == (0, "")
    assert (there / "mailtoken.toml").is_file()


def test_init_makes_no_configuration_of_another_name(tmp_path: Path) -> None:
    done = command_line.run("init", "--config", "other.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert not list(tmp_path.iterdir())


def test_init_says_what_stands_in_its_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = command_line.run("init", "file", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "mailtoken: file: File exists\n"


def test_status_names_offline_when_the_service_is_away(own_service: ServiceProcess) -> None:
    done = own_service.run("status")
    assert (done.returncode, done.stdout) == (6, "")
    assert "--offline" in done.stderr
    assert str(own_service.socket) in done.stderr


def test_offline_status_says_so_and_reads_the_store(own_service: ServiceProcess) -> None:
    own_service.start()
    smtp = own_service.add_printer()
    online = json.loads(own_service.done("status", "--json"))
    own_service.stop()
    done = own_service.run("status", "--offline", "--json")
    assert (done.returncode, done.stderr) == (0, "mailtoken: read from the store, without the service\n")
    assert json.loads(done.stdout) == online
    assert own_service.run("status", smtp, "--offline").stdout.count("Not Retrieved") == 1
    assert own_service.run("status", "nobody/smtp", "--offline").returncode == 4
    long_ago = own_service.run("status", "--offline", "--json", "--as-of", "2020-01-01")
    assert json.loads(long_ago.stdout) == []


def test_a_changed_row_is_found_and_made_again(own_service: ServiceProcess) -> None:
    own_service.start()
    smtp = own_service.add_printer()
    own_service.stop()
    assert own_service.run("audit", "verify", forked=False).returncode == 0
    with sqlite3.connect(own_service.directory / "mailtoken.db") as store:
        store.execute("UPDATE profile SET machine = 'stolen' WHERE name = ?", (smtp,))
    store.close()
    found = own_service.run("audit", "verify")
    assert found.returncode == 1
    assert re.fullmatch(r"- row_differs profile \S+ differs from the log in machine\n", found.stdout)
    assert found.stderr.startswith("mailtoken: 1 finding in ")
    report = own_service.run("audit", "verify", "--json")
    assert report.returncode == 1
    (finding,) = json.loads(report.stdout)["findings"]
    assert (finding["index"], finding["kind"]) == (None, "row_differs")
    assert own_service.run("audit", "rebuild").returncode == 0
    assert own_service.run("audit", "verify").returncode == 0


def test_without_the_key_the_audit_checks_what_needs_none_and_says_so(own_service: ServiceProcess) -> None:
    own_service.start()
    own_service.add_printer()
    own_service.stop()
    own_service.config.with_name("mailtoken.key").unlink()
    whole = own_service.run("audit", "verify")
    assert whole.returncode == 0
    assert whole.stderr == (
        "mailtoken: there is no key, so the links of the hash chain and its head were not checked\n"
    )
    with sqlite3.connect(own_service.directory / "mailtoken.db") as store:
        store.execute("DELETE FROM stored_events WHERE rowid = 3")
    store.close()
    found = own_service.run("audit", "verify")
    assert found.returncode == 1
    assert found.stdout.startswith("3 event_removed the event at 3 is in the hash chain but not in the log")
    assert own_service.run("audit", "rebuild").returncode == 1


def test_a_configuration_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "mailtoken.toml").write_text("[server\n")
    for command in (("token", "show", "a/b"), ("status",), ("serve",)):
        done = command_line.run(*command, cwd=tmp_path)
        assert done.returncode == 2
        assert f"{tmp_path / 'mailtoken.toml'}: not TOML" in done.stderr
        assert done.stderr.count("\n") == 1
