"""A host is lost, or its store moves: what was backed up serves elsewhere, and asks no provider before `resume`."""

from __future__ import annotations

import gzip
import json
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from invariants import assert_whole
from practice_faults.provider import FaultyProvider
from service_process import ADMIN, FAX, NOT_RETRIEVED, POP, RETRIEVED, SMTP, ServiceProcess
from waiting import wait_until

MakeService = Callable[..., ServiceProcess]

_GRANTS = "/api/v1/profiles"


@contextmanager
def in_use(service: ServiceProcess) -> Iterator[None]:
    """Settings are added and tokens read, one request after the other, until the end of the block."""
    over, failed = threading.Event(), list[BaseException]()

    def use() -> None:
        number = 0
        try:
            while not over.is_set():
                number += 1
                service.ask("POST", "/api/v1/machines", {"name": f"busy-{number}", "catalogue": "generic"})
                assert service.access_token().status == 200
        except BaseException as error:
            failed.append(error)

    user = threading.Thread(target=use)
    user.start()
    try:
        yield
    finally:
        over.set()
        user.join()
    assert not failed


def test_a_host_burns_down_in_the_middle_of_use_and_the_new_one_loses_no_token(
    make_service: MakeService, practice: FaultyProvider, tmp_path: Path
) -> None:
    lost = make_service(kind="oidc")
    lost.add_printer()
    lost.get_token()
    lost.fill_in(POP, FAX)
    lost.get_token(POP, FAX)
    lost.add_printer("second-mfp", account=ADMIN)
    waiting = lost.request("second-mfp/smtp-service")
    file = tmp_path / "last.backup"
    with in_use(lost):
        done = lost.run("backup", str(file), "--verify")
    assert (done.returncode, stat.S_IMODE(file.stat().st_mode)) == (0, 0o600), done.stderr
    served = {name: lost.access_token(name).body for name in (SMTP, POP)}
    new = lost.on_new_host(tmp_path / "new-host")
    lost.kill()
    shutil.rmtree(lost.directory)

    said = new.done("restore", str(file))
    assert "on hold" in said
    asked = len(practice.requests)
    with new:
        assert {name: new.access_token(name).body for name in (SMTP, POP)} == served
        assert_on_hold(new, waiting)
        assert len(practice.requests) == asked
        new.done("resume", "--because", "the old host is ashes")
        for name in (SMTP, POP):
            assert new.renew(name).status == 200
            assert new.status(name)["token"] == RETRIEVED
        assert new.status()["attention"] is None
        assert new.run("status", "--check").returncode == 0
        assert new.findings() == ()
    assert practice.grant_counts["refresh_token"] == 2


def assert_on_hold(new: ServiceProcess, waiting: dict[str, object]) -> None:
    """Everything that would ask the provider is refused, the sign-in is over, and every surface says why."""
    asks = [
        new.renew(),
        new.delete(),
        new.access_token(min_ttl=3600),
        new.call("POST", f"{_GRANTS}/second-mfp/smtp-service/token", {}),
        new.call("POST", "/api/v1/providers/contoso/check"),
    ]
    assert [(answer.status, answer.body["code"]) for answer in asks] == [(409, "on_hold")] * len(asks)
    over = new.status("second-mfp/smtp-service")
    assert (over["token"], over["reason"], over["attempt_id"]) == (NOT_RETRIEVED, "restored", None)
    new.sign_in(waiting, ADMIN)
    assert new.status()["attention"] == "on_hold"
    state = new.ask("GET", "/api/v1/store")
    assert (state["hold"]["reason"], state["attention"]) == ("restored", ["on_hold"])
    for how in ([], ["--offline"]):
        status = new.run("status", "--check", *how)
        assert (status.returncode, "resume" in status.stderr) == (1, True)
    refused = new.run("token", "renew", SMTP)
    assert (refused.returncode, refused.stderr.count("\n"), "resume" in refused.stderr) == (5, 1, True)
    assert new.call("GET", "/readyz").status == 200
    assert new.status("second-mfp/smtp-service")["token"] == NOT_RETRIEVED


def test_a_store_moves_from_a_file_to_a_database_and_back(
    make_service: MakeService, postgres_url: str, tmp_path: Path
) -> None:
    file_store = make_service(kind="oidc")
    file_store.add_printer()
    file_store.get_token()
    served = file_store.access_token().body
    file_store.done("backup", str(tmp_path / "one.backup"))
    assert file_store.stop() == 0
    text = file_store.config.read_text()

    database = file_store.on_new_host(tmp_path / "database", postgres_url)
    database.config.write_text(text.replace('path = "mailtoken.db"', f'url = "{postgres_url}"', 1))
    database.done("restore", str(tmp_path / "one.backup"))
    with database:
        assert database.access_token().body == served
        database.done("resume")
        assert database.renew().status == 200
        served = database.access_token().body
        database.done("backup", str(tmp_path / "two.backup"), "--verify")
    assert_whole(database)

    back = file_store.on_new_host(tmp_path / "back")
    back.config.write_text(text)
    back.done("restore", str(tmp_path / "two.backup"))
    with back:
        assert back.access_token().body == served
        back.done("resume")
        assert back.renew().status == 200
    assert_whole(back)


@pytest.fixture
def backed_up(make_service: MakeService, tmp_path: Path) -> tuple[ServiceProcess, Path]:
    """A service with one machine, and its backup; the service does not run any more."""
    service = make_service(kind="oidc")
    service.add_printer()
    file = tmp_path / "good.backup"
    service.done("backup", str(file))
    service.stop()
    return service, file


def test_what_can_not_be_restored_is_refused_in_one_line_and_changes_nothing(
    backed_up: tuple[ServiceProcess, Path], tmp_path: Path
) -> None:
    service, good = backed_up
    cut, other = tmp_path / "cut.backup", tmp_path / "other"
    cut.write_bytes(good.read_bytes()[:-20])
    other.write_text("hello\n")
    newer = tmp_path / "newer.backup"
    head, _, rest = gzip.decompress(good.read_bytes()).partition(b"\n")
    newer.write_bytes(gzip.compress(json.dumps({**json.loads(head), "mailtoken_backup": 1000}).encode() + b"\n" + rest))
    new = service.on_new_host(tmp_path / "new")
    stranger = service.on_new_host(tmp_path / "stranger")
    (stranger.directory / "mailtoken.key").write_text("A" * 43 + "=\n")
    keyless = service.on_new_host(tmp_path / "keyless")
    (keyless.directory / "mailtoken.key").unlink()
    for host, file, code, words in (
        (service, good, 5, "there is a store already"),
        (new, cut, 2, "cut or changed"),
        (new, other, 2, "no backup of Mailtoken"),
        (new, newer, 5, "a newer program made this backup"),
        (new, tmp_path, 1, "Is a directory"),
        (new, tmp_path / "missing", 1, "No such file"),
        (stranger, good, 5, "this key does not open this backup"),
        (keyless, good, 1, "there is no key"),
        (new, Path("/dev/stdin"), 2, "no backup of Mailtoken"),
        (new, Path("/dev/zero"), 2, "no backup of Mailtoken"),
    ):
        before = sorted(path.name for path in host.directory.iterdir())
        refused = host.run("restore", str(file))
        assert (refused.returncode, refused.stderr.count("\n")) == (code, 1), refused.stderr
        assert words in refused.stderr
        assert sorted(path.name for path in host.directory.iterdir()) == before
    assert new.run("backup", str(cut), "--verify").returncode == 2  # there is no configuration
    for file, code in ((good, 0), (cut, 2), (other, 2)):
        assert service.run("backup", str(file), "--verify").returncode == code


def test_a_place_that_can_not_be_written_gets_no_backup_and_says_so(
    backed_up: tuple[ServiceProcess, Path], tmp_path: Path
) -> None:
    service, good = backed_up
    before = good.read_bytes()
    for place, code, words in (
        (good, 5, "there is a file already"),
        (service.config.with_name("mailtoken.key"), 5, "there is a file already"),
        (tmp_path, 5, "there is a file already"),
        (Path("/dev/full"), 1, "No space left on device"),
        (tmp_path / "nowhere" / "a.backup", 1, "No such file or directory"),
        (good / "a.backup", 1, "Not a directory"),
        (Path("/proc/a.backup"), 1, "/proc/a.backup"),
    ):
        refused = service.run("backup", str(place))
        assert (refused.returncode, refused.stderr.count("\n")) == (code, 1), refused.stderr
        assert words in refused.stderr
    assert good.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_a_restore_is_refused_while_a_service_runs_here_and_resume_where_there_is_no_hold(
    make_service: MakeService, tmp_path: Path
) -> None:
    service = make_service(kind="oidc")
    service.done("backup", str(tmp_path / "a.backup"))
    refused = service.run("restore", str(tmp_path / "a.backup"))
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "is running" in refused.stderr
    refused = service.run("resume")
    assert (refused.returncode, refused.stderr.count("\n")) == (5, 1)


def test_a_copy_of_the_running_stores_file_alone_is_never_just_empty_and_is_no_backup(
    make_service: MakeService, tmp_path: Path
) -> None:
    running = make_service(kind="oidc")
    running.add_printer()
    copied = running.on_new_host(tmp_path / "copied")
    shutil.copy(running.config, copied.config)
    shutil.copy(running.database, copied.database)
    assert running.run("status", "--offline").stderr.count("\n") == 1, "its -wal file is there"
    status = copied.run("status", "--offline")
    assert "without its -wal file" in status.stderr, (status.stdout, status.stderr)
    assert "without its -wal file" in copied.run("doctor").stdout
    with copied:
        wait_until(lambda: "store_is_empty" in copied.log.read_text(), "the log says so")
    copied.database.write_bytes(b"")
    for left in copied.directory.glob("*.db-*"):
        left.unlink()
    refused = copied.run("status", "--offline")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "-wal file" in refused.stderr
    refused = running.on_new_host(tmp_path / "empty").run("restore", str(running.database))
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "it is a copy of a store and no backup" in refused.stderr
    running.stop()
    both = running.on_new_host(tmp_path / "both")
    for file in (running.config, running.database):
        shutil.copy(file, both.directory)
    assert "office-mfp/smtp-service" in both.done("status", "--offline")
