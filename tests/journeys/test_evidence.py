"""An auditor checks the log with a checkpoint, a proof and a public key, and with programs that are not ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import metamorphic_log
from proofbundle.tlogproof import verify_tlog_proof
from service_process import ServiceProcess
from waiting import wait_until

MakeService = Callable[..., ServiceProcess]


def test_a_stranger_verifies_the_proof_of_each_event_with_the_public_key_alone(
    make_service: MakeService, tmp_path: Path
) -> None:
    service = make_service(kind="oidc")
    service.add_printer()
    key = service.done("audit", "key").strip()
    lines = service.done("audit", "export").splitlines()
    for number in (1, len(lines)):
        file = tmp_path / f"{number}.tlog-proof"
        event = service.done("audit", "prove", str(number), "--out", str(file))
        assert verify_tlog_proof(file.read_text(), event.encode(), key)["ok"]
        assert not verify_tlog_proof(file.read_text(), event.encode() + b" ", key)["ok"]
    note = service.done("audit", "checkpoint")
    head = metamorphic_log.checkpoint_verify(note, [key])
    assert (head.origin, head.size) == (key.split("+")[0], len(lines))


def test_the_service_writes_checkpoints_as_the_configuration_says(make_service: MakeService, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    service = make_service(kind="oidc", more=f'[audit]\nevery = "1s"\ncheckpoint_file = "{file}"\n')
    wait_until(file.exists, "there is a checkpoint")
    first, kept = file.read_bytes(), tmp_path / "kept"
    kept.write_bytes(first)
    service.done("machine", "add", "lobby-mfp", "--catalogue", "sharp-bp")
    wait_until(lambda: file.read_bytes() != first, "there is another checkpoint")
    assert service.run("audit", "verify", "--against", str(kept)).returncode == 0
    assert '"event": "checkpoint_made"' in service.log.read_text()


def test_each_file_that_the_log_does_not_extend_has_one_line_and_its_exit_code(
    make_service: MakeService, tmp_path: Path
) -> None:
    service = make_service(kind="oidc")
    service.done("audit", "checkpoint", "--out", str(tmp_path / "empty"))
    service.stop()
    older = service.database.read_bytes()
    service.start().add_printer()
    service.stop()
    good = tmp_path / "good"
    service.done("audit", "checkpoint", "--out", str(good))
    text = good.read_text()
    other = ServiceProcess(tmp_path / "other", service.provider, kind="oidc")
    other.done("audit", "checkpoint", "--out", str(tmp_path / "of-another-log"))
    (tmp_path / "junk").write_text("hello\n")
    (tmp_path / "changed").write_text(text.replace("\n", "\n1", 1))
    (tmp_path / "unsigned").write_text(text.partition("\u2014")[0])
    for name, code, words in (
        ("empty", 0, ""),
        ("good", 0, ""),
        ("junk", 2, "no checkpoint"),
        ("unsigned", 2, "no checkpoint"),
        ("changed", 2, "no key of this log has signed it"),
        ("of-another-log", 5, "another log"),
        ("missing", 1, "No such file"),
    ):
        ended = service.run("audit", "verify", "--against", str(tmp_path / name))
        assert (ended.returncode, ended.stderr.count("\n")) == (code, bool(code)), (name, ended.stderr)
        assert words in ended.stderr

    refused = service.run("audit", "prove", "9999")
    assert (refused.returncode, refused.stderr.count("\n")) == (4, 1)
    refused = service.run("audit", "checkpoint", "--out", str(good))
    assert (refused.returncode, refused.stderr.count("\n")) == (5, 1)
    assert good.read_text() == text

    change_an_event(service)
    ended = service.run("audit", "verify", "--against", str(good))
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    first, second = ended.stdout.splitlines()[:2]
    assert first.startswith("- checkpoint_differs ")
    assert second.startswith("2 event_hash_differs ")  # the change was made without the key, so the chain names it
    service.database.write_bytes(older)
    ended = service.run("audit", "verify", "--against", str(good))
    assert (ended.returncode, ended.stderr.count("\n")) == (5, 1)
    assert "an older copy of it was put back" in ended.stderr


def change_an_event(service: ServiceProcess) -> None:
    with closing(sqlite3.connect(service.database)) as connection, connection:
        connection.execute("UPDATE stored_events SET topic = topic || 'x' WHERE rowid = 2")
