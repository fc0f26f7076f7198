"""Secret files in each form that editors and certificate authorities write."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from client_certificates import certificate_pem, private_pem, rsa_key
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, NoEncryption, pkcs12

from adapters.providers.client_authentication import client_credentials
from adapters.providers.settings import ProviderSettings, provider_settings
from domain.errors import InvalidValue
from infrastructure.config.tables import Config, ProviderTable


def configured(directory: Path, **files: bytes) -> ProviderSettings:
    for name, content in files.items():
        (directory / name).write_bytes(content)
    table = {"kind": "microsoft", "tenant": "contoso.com", "client_id": "us", **{name: name for name in files}}
    config = Config(directory=directory, providers={"contoso": ProviderTable.model_validate(table)})
    return provider_settings(config, "contoso", config.providers["contoso"])


def container(password: bytes | None) -> bytes:
    certificate = x509.load_pem_x509_certificate(certificate_pem(rsa_key()).encode())
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return pkcs12.serialize_key_and_certificates(b"us", rsa_key(), certificate, None, encryption)


@pytest.mark.parametrize("password", [None, b"correct horse"])
def test_a_pkcs12_file_is_a_certificate_with_its_key(tmp_path: Path, password: bytes | None) -> None:
    files = {"certificate_file": container(password)}
    if password:
        files["certificate_password_file"] = password + b"\n"
    settings = configured(tmp_path, **files)
    assert list(client_credentials(settings)) == ["certificate 1"]
    assert settings.certificates[0].reveal().startswith(private_pem(rsa_key()))


@pytest.mark.parametrize("files", [{}, {"certificate_password_file": b"wrong"}])
def test_a_pkcs12_file_without_its_password_is_named(tmp_path: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(InvalidValue) as refused:
        configured(tmp_path, certificate_file=container(b"correct horse"), **files)
    assert (refused.value.code, refused.value.field) == ("pkcs12_unreadable", "[providers.contoso] certificate_file")
    assert "correct horse" not in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [
        b"hunter2\n",
        codecs.BOM_UTF8 + b"hunter2\r\n",
        codecs.BOM_UTF16_LE + "hunter2\r\n".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "hunter2".encode("utf-16-be"),
    ],
)
def test_a_secret_is_read_in_the_encodings_that_are_certain(tmp_path: Path, content: bytes) -> None:
    assert configured(tmp_path, client_secret_file=content).client_secrets[0].reveal() == "hunter2"


@pytest.mark.parametrize("name", ["client_secret_file", "certificate_file"])
def test_a_file_in_another_encoding_is_named_without_its_content(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        configured(tmp_path, **{name: "Schl\u00fcssel".encode("latin-1")})
    assert (refused.value.code, refused.value.field) == ("file_not_text", f"[providers.contoso] {name}")
    assert "Schl" not in str(refused.value)
