"""A listener with `ciphers = "legacy"` beside the usual one, as `openssl s_client` finds them."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from sending_relay import StartRelay
from waiting import wait_until

pytestmark = pytest.mark.needs("openssl")

OLD = ["AES128-SHA", "AES256-SHA256", "AES128-GCM-SHA256", "DHE-RSA-AES128-SHA", "ECDHE-RSA-AES128-SHA"]
REFUSED = [
    ("-tls1_1", "ALL"),
    ("-tls1", "ALL"),
    ("-tls1_2", "NULL-SHA256"),
    ("-tls1_2", "ADH-AES128-SHA"),
    ("-tls1_2", "CAMELLIA128-SHA"),
    ("-tls1_2", "AES128-CCM"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A certificate with an RSA key, which the old ciphers need."""
    folder = tmp_path_factory.mktemp("rsa")
    files = {"certificate_file": folder / "relay.crt", "key_file": folder / "relay.key"}
    subject = ["-subj", "/CN=localhost", "-keyout", files["key_file"], "-out", files["certificate_file"]]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *map(str, subject)]
    subprocess.run(command, check=True, capture_output=True)
    return files


@pytest.fixture
def ports(send: StartRelay, files: dict[str, Path]) -> list[int]:
    """The ports with the usual ciphers and with the legacy ones."""
    legacy = {"listen": "smtps://127.0.0.1:0", "ciphers": "legacy"}
    relay = send("smtps://127.0.0.1:0", listeners=(legacy,), **files)
    return relay.ports


def handshake(port: int, cipher: str, version: str = "-tls1_2") -> str:
    """What `openssl s_client` prints of a session with one cipher."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", version, "-cipher", f"{cipher}:@SECLEVEL=0"]
    done = subprocess.run([*command, "-quiet"], input=b"QUIT\r\n", check=False, capture_output=True)
    return (done.stdout + done.stderr).decode()


@pytest.mark.parametrize("cipher", OLD)
def test_an_old_cipher_is_taken_at_the_legacy_listener_alone(
    ports: list[int], logged: list[dict[str, Any]], cipher: str
) -> None:
    assert "handshake failure" in handshake(ports[0], cipher)
    line = wait_until(lambda: [line for line in logged if line["event"] == "client_refused"], "it is logged")[0]
    assert "but none of the ciphers of this port: " in line["why"]
    assert 'a port of its own with ciphers = "legacy"' in line["why"]
    assert "ESMTP Mailtoken" in handshake(ports[1], cipher)


def test_a_modern_cipher_is_taken_at_both(ports: list[int]) -> None:
    for port in ports:
        assert "ESMTP Mailtoken" in handshake(port, "ECDHE-RSA-AES128-GCM-SHA256")


@pytest.mark.parametrize(("version", "cipher"), REFUSED)
def test_older_versions_and_ciphers_that_are_broken_are_refused_there_too(
    ports: list[int], version: str, cipher: str
) -> None:
    assert "ESMTP" not in handshake(ports[1], cipher, version)
