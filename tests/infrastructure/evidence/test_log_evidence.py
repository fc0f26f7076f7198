"""Checkpoints and proofs of a log, and its comparison with an earlier checkpoint."""

from __future__ import annotations

import json
import stat
from base64 import b64decode, b64encode
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from fakes import Services
from store_examples import OlderCopy, change
from strangers import VERIFIERS, checkpoint_accepted
from structlog.testing import capture_logs

from domain.errors import InvalidValue, NotFound, Refused
from infrastructure.evidence.checkpoint_worker import CheckpointWorker
from infrastructure.evidence.log_evidence import GrowingLog, LogEvidence
from infrastructure.store.hash_chain import GENESIS, Head, extend_chain

ADMIN = "administrator:root"
SMTP = "office-mfp/smtp-service"


@pytest.fixture
def installation(service: Services) -> Services:
    service.add_machine()
    service.get_token(SMTP)
    return service


def evidence_of(service: Services) -> LogEvidence:
    return LogEvidence(service.events, service.store_id)


def checkpoint_of(service: Services) -> bytes:
    return evidence_of(service).extend(GrowingLog()).text.encode()


def events_in(service: Services) -> int:
    with service.store.reading() as query:
        return len(query.events(0, 10_000))


def test_strangers_verify_a_checkpoint_and_the_proof_of_every_event(installation: Services) -> None:
    evidence = evidence_of(installation)
    accepted = checkpoint_accepted(checkpoint_of(installation), evidence.key.text)
    assert accepted is not None
    assert accepted[:2] == (f"mailtoken/{installation.store_id}", events_in(installation))
    seen = set()
    for number in range(1, accepted[1] + 1):
        proof = evidence.prove(number)
        assert all(accepts(proof.text.encode(), proof.octets, evidence.key.text) for accepts in VERIFIERS)
        document = json.loads(proof.octets)
        assert document["event"] == number
        seen.add(document["topic"])
    assert "mailtoken.Token.Retrieved.v1" in seen


def test_a_proof_is_of_its_event_and_no_other(installation: Services) -> None:
    evidence = evidence_of(installation)
    proof, other = evidence.prove(3), evidence.prove(4)
    for accepts in VERIFIERS:
        assert not accepts(proof.text.encode(), other.octets, evidence.key.text)


@pytest.mark.parametrize("number", [0, -1, 10_000])
def test_an_event_that_is_not_there_has_no_proof(installation: Services, number: int) -> None:
    with pytest.raises(NotFound, match="event_not_found"):
        evidence_of(installation).prove(number)


def test_a_log_that_has_grown_extends_its_checkpoints(installation: Services) -> None:
    evidence, before = evidence_of(installation), checkpoint_of(installation)
    installation.add_machine("second-mfp")
    compared = evidence.compare(before, "before")
    assert compared.extends
    assert compared.events == events_in(installation) > compared.checkpoint.size
    assert evidence.compare(checkpoint_of(installation), "now").extends


@pytest.mark.parametrize("engine", ["sqlite"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stored_events SET state = replace(state, 'office-mfp', 'other-mfp') WHERE rowid = 1",
        "UPDATE stored_events SET topic = topic || 'x' WHERE rowid = 2",
        "UPDATE stored_events SET originator_version = 99 WHERE rowid = 2",
        "UPDATE stored_events SET originator_id = '00000000000000000000000000000001' WHERE rowid = 2",
        "DELETE FROM stored_events WHERE rowid = 3",
        "UPDATE stored_events SET rowid = -1 WHERE rowid = 3",
        "UPDATE stored_events SET rowid = 100000 WHERE rowid = 3",
    ],
)
def test_each_change_of_an_event_that_a_checkpoint_covers_is_found(installation: Services, statement: str) -> None:
    before = checkpoint_of(installation)
    installation.add_machine("second-mfp")
    assert change(installation.store, statement) == 1
    assert not evidence_of(installation).compare(before, "before").extends


def test_who_has_the_key_too_can_chain_anew_what_they_changed_and_the_checkpoint_finds_it(
    installation: Services,
) -> None:
    before = checkpoint_of(installation)
    keys = installation.store.integrity.chain
    with installation.store.writing() as query:
        events = query.events(0, 10_000)
        position, stored = events[2]
        events[2] = position, replace(stored, state=stored.state.replace(b"administrator", b"administratoX"))
        assert events[2][1] != stored
        for table in ("stored_events", "chain"):
            query.run(f"DELETE FROM {table}")
        query.copy_events(events)
        extend_chain(query, keys, Head.of(keys, 0, 0, GENESIS), *zip(*events, strict=True))
    assert installation.audit.verify_chain() == []
    assert not evidence_of(installation).compare(before, "before").extends


def test_a_proof_is_no_checkpoint(installation: Services) -> None:
    evidence = evidence_of(installation)
    with pytest.raises(InvalidValue, match="not_a_checkpoint"):
        evidence.compare(evidence.prove(1).text.encode(), "proof")


def test_a_checkpoint_of_a_newer_log_of_another_log_or_without_a_signature_is_refused(
    installation: Services,
) -> None:
    older = OlderCopy(installation.store)
    installation.add_machine("second-mfp")
    newer = checkpoint_of(installation)
    older.put_back(installation.store)
    evidence = evidence_of(installation)
    with pytest.raises(Refused, match="checkpoint_newer"):
        evidence.compare(newer, "newer")
    other = LogEvidence(installation.events, "another")
    with pytest.raises(Refused, match="checkpoint_of_another_log"):
        evidence.compare(other.extend(GrowingLog()).text.encode(), "another")
    text, signature = newer.rstrip(b"\n").rsplit(b" ", 1)
    octets = b64decode(signature)
    not_signed = text + b" " + b64encode(octets[:-2] + bytes([octets[-2] ^ 1]) + octets[-1:]) + b"\n"
    for changed in (newer.replace(b"\n\n", b"1\n\n", 1), not_signed):
        with pytest.raises(InvalidValue, match=r"not_a_checkpoint|checkpoint_not_signed"):
            evidence.compare(changed, "changed")
    with pytest.raises(InvalidValue, match="not_a_checkpoint"):
        evidence.compare(b"hello\n", "hello")


def worker(service: Services, file: Path | None) -> CheckpointWorker:
    return CheckpointWorker(evidence_of(service), timedelta(hours=1), file, service.tokens.holds.is_on)


def test_the_worker_writes_a_checkpoint_when_the_log_has_grown_and_the_journal_names_it(
    installation: Services, tmp_path: Path
) -> None:
    file = tmp_path / "checkpoint"
    running = worker(installation, file)
    with capture_logs() as logs:
        running.write()
        first = file.read_bytes()
        running.write()
        installation.add_machine("second-mfp")
        running.write()
    assert [one["events"] for one in logs] == [
        evidence_of(installation).compare(first, "first").checkpoint.size,
        events_in(installation),
    ]
    assert file.read_bytes() == checkpoint_of(installation) != first
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


def test_the_worker_begins_anew_where_another_log_was_put_in_the_place_of_the_one_it_knew(
    installation: Services, tmp_path: Path
) -> None:
    file = tmp_path / "checkpoint"
    older = OlderCopy(installation.store)
    installation.add_machine("second-mfp")
    running = worker(installation, file)
    running.write()
    older.put_back(installation.store)
    installation.restart().add_machine("third-mfp", "generic")
    running.write()
    assert file.read_bytes() == checkpoint_of(installation)


def test_no_checkpoint_is_made_on_hold(installation: Services, tmp_path: Path) -> None:
    older = OlderCopy(installation.store)
    installation.get_token("office-mfp/pop-internet-fax")
    older.put_back(installation.store)
    again = installation.restart()
    running = worker(again, tmp_path / "checkpoint")
    running.write()
    assert not (tmp_path / "checkpoint").exists()
    again.tokens.holds.resume(None, ADMIN)
    running.write()
    assert (tmp_path / "checkpoint").exists()


def test_a_checkpoint_that_cant_be_written_is_made_at_the_next_try(installation: Services, tmp_path: Path) -> None:
    running = worker(installation, tmp_path / "later" / "checkpoint")
    with pytest.raises(OSError, match="No such file"):
        running.write()
    (tmp_path / "later").mkdir()
    running.write()
    assert (tmp_path / "later" / "checkpoint").read_bytes() == checkpoint_of(installation)
