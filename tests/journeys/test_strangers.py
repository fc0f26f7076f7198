"""Other users of the same machine: what they left, where they listen, and what they can read."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.request import urlopen

import command_line
import pytest
from listeners import listen_at
from ports import free_port
from service_process import ServiceProcess
from waiting import wait_until

from adapters.relay.service_client import ServiceClient
from domain.catalogue import Protocol
from domain.errors import Unreachable
from domain.secret import Secret
from infrastructure.config.paths import ConfigurationMissing, find_config

STRANGER = 65534
_LISTEN = """
import os, socket, sys
# The interpreter itself may lie where this user can't start it.
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(64)
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    if connection.recv(65536):
        print("was told something", flush=True)
    connection.close()
"""


@contextmanager
def stranger_listening(path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", _LISTEN, str(path), str(STRANGER)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "listening\n"
        yield process
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder in which everybody can write."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.mark.needs("root")
def test_a_command_says_nothing_to_a_stranger_at_the_services_socket(open_folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "mailtoken.toml"
    socket = open_folder / "mailtoken.sock"
    config.write_text(f'[server]\nsocket = "{socket}"\n')
    with stranger_listening(socket) as stranger:
        for arguments in (
            ("token", "show", "office-mfp/smtp-service"),
            ("status",),
            ("test", "office-mfp/smtp-service"),
        ):
            done = command_line.run("--config", str(config), *arguments, cwd=tmp_path)
            assert (done.returncode, done.stdout) == (3, "")
            assert done.stderr.count("\n") == 1
            assert f"another user than root and this one listens at {socket}" in done.stderr
        stranger.terminate()
        assert stranger.communicate()[0] == ""
    socket.unlink()


@pytest.mark.needs("root")
def test_the_relay_asks_no_stranger_at_the_services_socket(open_folder: Path) -> None:
    socket = open_folder / "mailtoken.sock"

    async def sign_in() -> None:
        async with ServiceClient(socket) as service:
            await service.admit(Protocol.SMTP, "192.0.2.7", "printers", Secret("a-password-in-clear"))

    with stranger_listening(socket) as stranger:
        with pytest.raises(Unreachable) as refused:
            asyncio.run(sign_in())
        assert refused.value.code == "stranger_listens"
        stranger.terminate()
        assert stranger.communicate()[0] == ""
    socket.unlink()


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o757])
def test_a_configuration_that_others_can_replace_is_not_found_by_itself(
    mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mailtoken.toml"
    path.write_text("")
    nowhere = {"XDG_CONFIG_HOME": str(tmp_path / "none")}
    assert find_config(None, nowhere) == path
    for changed in (tmp_path, path):
        before = changed.stat().st_mode
        changed.chmod(mode)
        with pytest.raises(ConfigurationMissing) as missing:
            find_config(None, nowhere)
        assert missing.value.unsafe == path
        assert find_config(str(path), nowhere) == path
        changed.chmod(before)


@pytest.mark.needs("root")
@pytest.mark.parametrize("whose", ["file", "folder"])
def test_a_configuration_of_another_user_is_not_found_by_itself(whose: str, tmp_path: Path) -> None:
    path = tmp_path / "mailtoken.toml"
    path.write_text('[server]\nsocket = "theirs.sock"\n')
    os.chown(path if whose == "file" else tmp_path, STRANGER, STRANGER)
    done = command_line.run("status", cwd=tmp_path, XDG_CONFIG_HOME=str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"mailtoken: {path} is not used, as another user owns or can write the file or its directory: name it with"
        " --config if you trust it\n"
    )


def test_sendmail_does_not_look_into_the_folder_where_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "mailtoken.toml").write_text('[server]\nsocket = "here.sock"\n')
    sendmail = tmp_path / "sendmail"
    sendmail.symlink_to(command_line.MAILTOKEN)
    nowhere = str(tmp_path / "none")
    asked = {"cwd": tmp_path, "message": "Subject: x\n\nx\n", "forked": False, "XDG_CONFIG_HOME": nowhere}
    as_sendmail = command_line.run("a@example.org", program=sendmail, **asked)  # type: ignore[arg-type]
    assert as_sendmail.returncode == 2
    assert str(tmp_path) not in as_sendmail.stderr.replace(nowhere, "")
    by_name = command_line.run("send", "a@example.org", **asked)  # type: ignore[arg-type]
    assert by_name.returncode == 6
    assert "here.sock" in by_name.stderr


def words_of_a_stranger(theirs: Path, log: Path) -> list[list[str]]:
    """Arguments that a stranger may get into the call of sendmail, as the address of a web form."""
    config = theirs / "mailtoken.toml"
    return [
        [f"--config={config}", "a@example.org"],
        ["--config", str(config), "a@example.org"],
        ["a@example.org", f"--config={config}"],
        [f"-fa@example.org --config={config}", "a@example.org"],
        ["-f", "a@example.org", f"--config={config}", "a@example.org"],
        ["-t", "-i", f"-f--config={config}", "a@example.org"],
        [f"-C{config}", "a@example.org"],
        ["-C", str(config), "a@example.org"],
        [f"-X{log}", f"-OQueueDirectory={theirs}", "a@example.org"],
        ["-oQ", str(theirs), "-X", str(log), "a@example.org"],
        ["--debug", "a@example.org"],
        ["--", f"--config={config}"],
        ["--", "-a@example.org"],
    ]


@pytest.mark.parametrize("called", ["sendmail", "send"])
def test_a_strangers_words_behind_sendmail_choose_no_service_and_write_no_file(tmp_path: Path, called: str) -> None:
    theirs, log = tmp_path / "theirs", tmp_path / "sendmail.log"
    theirs.mkdir()
    (theirs / "mailtoken.toml").write_text('[server]\nsocket = "theirs.sock"\n')
    ours = tmp_path / "ours.toml"
    ours.write_text('[server]\nsocket = "ours.sock"\n')
    sendmail = tmp_path / "sendmail"
    sendmail.symlink_to(command_line.MAILTOKEN)
    program, first = (sendmail, ()) if called == "sendmail" else (command_line.MAILTOKEN, ("send",))
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(theirs / "theirs.sock"))
        listener.listen()
        listener.setblocking(False)
        for words in words_of_a_stranger(theirs, log):
            done = command_line.run(
                *first,
                *words,
                program=program,
                cwd=theirs,
                message="Subject: x\n\nx\n",
                MAILTOKEN_CONFIG=str(ours),
            )
            assert (done.returncode in (2, 6), done.stdout, done.stderr.count("\n")) == (True, "", 1), (words, done)
            assert "Traceback" not in done.stderr
            assert done.returncode == 2 or "ours.sock" in done.stderr
            with pytest.raises(BlockingIOError):
                listener.accept()
    assert not log.exists()
    assert sorted(path.name for path in theirs.iterdir()) == ["mailtoken.toml", "theirs.sock"]


_FORBID = """
import os, sys
from adapters.core_dumps import forbid_core_dumps
os.setuid(int(sys.argv[1]))
forbid_core_dumps()
print("done", flush=True)
sys.stdin.read()
"""


def test_the_service_leaves_no_core_dump(make_service: Callable[..., ServiceProcess]) -> None:
    service = make_service()
    limits = Path(f"/proc/{service.pid}/limits").read_text()
    assert [line.split()[-3:-1] for line in limits.splitlines() if "core file" in line] == [["0", "0"]]


@pytest.mark.needs("root")
def test_the_memory_of_a_process_that_holds_tokens_is_for_root_alone() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _FORBID, str(STRANGER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "done\n"
        assert os.stat(f"/proc/{process.pid}/mem").st_uid == 0
        process.communicate("")


def test_the_first_administrators_link_is_in_a_file_of_the_service_alone_and_not_in_its_log(
    make_service: Callable[..., ServiceProcess],
) -> None:
    service = make_service()
    service.stop()
    listen_at(service.config, port := free_port())
    service.start()
    file = service.directory / "mailtoken.set-up-link"
    wait_until(file.exists, "the link is written")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    url = file.read_text().strip()
    assert url.startswith(f"http://127.0.0.1:{port}/setup")
    with urlopen(url) as page:
        assert page.status == 200
    log = service.log.read_text()
    assert str(file) in log
    assert url.rpartition("=")[2] not in log
    service.run("administrator", "add", "anna", "--role", "administrator", message="correct horse battery\n")
    service.stop()
    service.start()
    assert not file.exists()
