"""The credentials of the client registration: an assertion, certificates and secrets, in the order of their trial."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from adapters.http_client import NoReply
from adapters.providers.settings import ProviderSettings
from domain.secret import Secret

_PRIVATE_KEY = re.compile(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL)


@dataclass(frozen=True)
class Certificate:
    """A certificate in PEM and the RSA private key it was issued for; `thumbprint` is its `x5t#S256` (RFC 7515)."""

    certificate: str = field(repr=False)
    thumbprint: str
    private_key: Secret


@dataclass(frozen=True)
class FederatedAssertion:
    """A file with a JSON Web Token that another program writes and renews (RFC 7523 section 2.2)."""

    file: Path

    def read(self) -> Secret:
        """The token, as it is in the file now.

        Raises:
            NoReply: the file can't be read or has no token now, so that no request can be sent.
        """
        try:
            text = self.file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            text = ""
        if not is_vschar(text):
            raise NoReply("client_assertion_unreadable")
        return Secret(text)


ClientCredential = Secret | Certificate | FederatedAssertion


def client_credentials(settings: ProviderSettings) -> Mapping[str, ClientCredential]:
    """The registration's credentials in the order of their trial, by a name that may be shown.

    A public client has none.

    Raises:
        InvalidValue: a credential can't be used; the error holds no part of it.
    """
    return MappingProxyType(dict([*_assertions(settings), *_certificates(settings), *_secrets(settings)]))


def is_vschar(text: str) -> bool:
    """Whether the text has only the characters of client identifiers and secrets (RFC 6749 appendix A)."""
    return bool(text) and text.isascii() and text.isprintable()


def _assertions(settings: ProviderSettings) -> Iterator[tuple[str, FederatedAssertion]]:
    if settings.client_assertion_file:
        assertion = FederatedAssertion(settings.client_assertion_file)
        try:
            assertion.read()
        except NoReply:
            file = str(settings.client_assertion_file)
            raise settings.invalid("client_assertion_file", "client_assertion_missing", file=file) from None
        yield "client assertion", assertion


def _secrets(settings: ProviderSettings) -> Iterator[tuple[str, Secret]]:
    for number, secret in enumerate(settings.client_secrets, 1):
        if not is_vschar(secret.reveal()):
            raise settings.invalid("client_secret_file", "not_printable_ascii")
        yield f"client secret {number}", secret


def _certificates(settings: ProviderSettings) -> Iterator[tuple[str, Certificate]]:
    for number, pem in enumerate(settings.certificates, 1):
        certificate = _read_certificate(pem.reveal())
        if isinstance(certificate, str):
            raise settings.invalid("certificate_file", certificate)
        yield f"certificate {number}", certificate


def _read_certificate(pem: str) -> Certificate | str:
    """The certificate of the private key, also in a chain; or the code of the error if the file can't be used."""
    block = _PRIVATE_KEY.search(pem)
    if block is None:
        return "certificate_without_key"
    try:
        key = load_pem_private_key(block[0].encode(), password=None)
        chain = x509.load_pem_x509_certificates(pem.encode())
    except TypeError:
        return "certificate_key_encrypted"
    except ValueError:
        return "certificate_unreadable"
    if not isinstance(key, RSAPrivateKey):
        return "certificate_key_not_rsa"
    for certificate in chain:
        if certificate.public_key() == key.public_key():
            thumbprint = urlsafe_b64encode(certificate.fingerprint(SHA256())).rstrip(b"=").decode()
            return Certificate(certificate.public_bytes(Encoding.PEM).decode(), thumbprint, Secret(block[0]))
    return "certificate_key_of_another"
