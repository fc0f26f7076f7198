"""`doctor` has a verdict for each thing that an installation needs, and its bundle holds no secret."""

from __future__ import annotations

import json
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from client_certificates import BEGINS_AT, certificate_pem, private_pem, rsa_key
from service_process import ServiceProcess

from adapters.cli.commands.doctor import without_passwords
from adapters.cli.service_socket import CommandError
from adapters.doctor import Verdict, examine
from adapters.error_kinds import ExitCode
from adapters.installation import initialise
from infrastructure.encryption.key_file import create_key_file


def verdicts(path: Path, **answers: object) -> dict[str, tuple[str, str]]:
    """The verdict and the text for each subject. Without `answers` the service does not run."""

    def ask(_: str, target: str) -> object:
        if not answers:
            raise CommandError(ExitCode.UNREACHABLE, "the service is not running: start it with mailtoken serve")
        if target.endswith("/providers"):
            return [{"name": name} for name in ("contoso", "of-the-store")]
        return answers.get("check", {}) if target.endswith("/check") else {}

    return {one.subject: (one.verdict, one.text) for one in examine(path, ask)}


def test_a_new_installation_lacks_only_its_service_and_a_backup(tmp_path: Path) -> None:
    found = verdicts(initialise(tmp_path).config)
    assert {subject for subject, (verdict, _) in found.items() if verdict == Verdict.GOOD} >= {
        "configuration",
        "key",
        "store",
        "clock",
    }
    assert found["service"][0] == Verdict.BAD
    assert found["service"][1].endswith("start it with mailtoken serve")
    assert found["backup"] == (
        Verdict.WARNING,
        "there was none: run mailtoken backup FILE, and keep the key apart from it",
    )


def test_a_wrong_key_and_a_port_that_nobody_serves_are_found(tmp_path: Path) -> None:
    made = initialise(tmp_path)
    made.key.unlink()
    create_key_file(made.key)
    made.config.write_text(made.config.read_text() + '\n[relay]\nlisten = ["smtp://127.0.0.1:1"]\n')
    found = verdicts(made.config)
    assert found["store"][1].startswith("this key does not open this store")
    assert found["port smtp://127.0.0.1:1"][0] == Verdict.BAD


def test_a_configuration_with_faults_and_one_that_is_none_are_examined_as_far_as_possible(tmp_path: Path) -> None:
    made = initialise(tmp_path)
    made.config.write_text(made.config.read_text() + "\n[send]\ncolour = 3\n")
    found = verdicts(made.config)
    assert (found["configuration"][0], found["key"][0]) == (Verdict.BAD, Verdict.GOOD)
    made.config.write_text("[store")
    assert list(verdicts(made.config)) == ["configuration"]


def test_each_provider_is_checked_by_the_service(tmp_path: Path) -> None:
    made = initialise(tmp_path)
    made.config.write_text(
        made.config.read_text() + '\n[providers.contoso]\nkind = "google"\nclient_id = "mailtoken"\n'
    )
    found = verdicts(made.config, check={"ok": True})
    assert found["provider contoso"][0] == found["provider of-the-store"][0] == Verdict.GOOD
    verdict, text = verdicts(made.config, check={"ok": False})["provider contoso"]
    assert (verdict, text) == (
        Verdict.BAD,
        "its registration has faults: run mailtoken provider check contoso",
    )


@pytest.mark.parametrize(
    ("lasts", "verdict"),
    [
        (timedelta(days=-1), Verdict.BAD),
        (timedelta(days=29), Verdict.WARNING),
        (timedelta(days=60), Verdict.GOOD),
    ],
)
def test_a_certificate_of_a_listener_or_a_client_registration_that_ends_soon_is_found(
    tmp_path: Path, lasts: timedelta, verdict: Verdict
) -> None:
    made, key = initialise(tmp_path), rsa_key()
    certificate = certificate_pem(key, datetime.now(UTC) + lasts - BEGINS_AT)
    (tmp_path / "client.pem").write_text(certificate + private_pem(key))
    (tmp_path / "relay.pem").write_text(certificate)
    (tmp_path / "relay.key").write_text(private_pem(key))
    (tmp_path / "client.pem").chmod(0o600)
    (tmp_path / "relay.key").chmod(0o600)
    made.config.write_text(
        made.config.read_text()
        + '\n[providers.contoso]\nkind = "microsoft"\ntenant = "contoso.com"\nclient_id = "mailtoken"\n'
        + 'certificate_file = "client.pem"\n[relay]\ncertificate_file = "relay.pem"\nkey_file = "relay.key"\n'
    )
    found = verdicts(made.config)
    assert found["certificate of [relay]"][0] == verdict
    assert found["certificate of [providers.contoso]"][0] == verdict


def test_the_bundle_of_a_running_service_holds_no_secret(service: ServiceProcess) -> None:
    file = service.directory / "bundle.tar.gz"
    done = service.run("doctor", "--json", "--bundle", str(file))
    found = {one["subject"]: one["verdict"] for one in json.loads(done.stdout)}
    assert (found["service"], found["store"]) == ("good", "good")
    assert file.stat().st_mode & 0o777 == 0o600
    key = (service.directory / "mailtoken.key").read_text().strip()
    with tarfile.open(file) as archive:
        texts = {one.name: archive.extractfile(one).read().decode() for one in archive}  # type: ignore[union-attr]
    assert set(texts) == {"doctor.json", "mailtoken.toml", "versions.txt"}
    assert not any(key in text for text in texts.values())
    again = service.run("doctor", "--bundle", str(file))
    assert (again.returncode, again.stderr.count("\n")) == (5, 1)


@pytest.mark.parametrize(
    "line",
    [
        'url = "postgresql://mailtoken:rather-secret@db/mailtoken"',
        'url = "host=db password=rather-secret"',
        '# url = "postgresql://db/mailtoken?password=rather-secret"',
        "proxy = 'socks5h://anna:rather-secret@proxy:1080'",
        'webhook = "https://hooks.contoso.com/rather-secret"',
        'command = ["/usr/bin/tell", "--key", "rather-secret"]',
    ],
)
def test_no_password_of_the_configuration_is_in_the_bundle(line: str) -> None:
    cleaned = without_passwords(f'{line}\nlisten = "[::1]:8480"\n')
    assert "rather-secret" not in cleaned
    assert cleaned.endswith('listen = "[::1]:8480"\n')
