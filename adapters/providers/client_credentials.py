"""What our client registration authenticates with: secrets and certificates, in the order they are tried."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from adapters.providers.settings import ProviderSettings
from domain.secret import Secret

_PRIVATE_KEY = re.compile(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL)


@dataclass(frozen=True)
class Certificate:
    """A certificate in PEM and the RSA private key it was issued for; `thumbprint` is its `x5t#S256` (RFC 7515)."""

    certificate: str = field(repr=False)
    thumbprint: str
    private_key: Secret


ClientCredential = Secret | Certificate


def client_credentials(settings: ProviderSettings) -> Mapping[str, ClientCredential]:
    """The registration's certificates and then its secrets, by a name to speak of them; empty for a public client.

    Raises:
        InvalidValue: one can't be used; the message holds nothing of it.
    """
    return MappingProxyType(dict([*_certificates(settings), *_secrets(settings)]))


def is_vschar(text: str) -> bool:
    """RFC 6749 appendix A: what identifiers and secrets of clients are made of."""
    return bool(text) and text.isascii() and text.isprintable()


def _secrets(settings: ProviderSettings) -> Iterator[tuple[str, Secret]]:
    for number, secret in enumerate(settings.client_secrets, 1):
        if not is_vschar(secret.reveal()):
            raise settings.invalid("client_secret_file", "its text is empty or not printable ASCII")
        yield f"client secret {number}", secret


def _certificates(settings: ProviderSettings) -> Iterator[tuple[str, Certificate]]:
    for number, pem in enumerate(settings.certificates, 1):
        certificate = _read_certificate(pem.reveal())
        if isinstance(certificate, str):
            raise settings.invalid("certificate_file", certificate)
        yield f"certificate {number}", certificate


def _read_certificate(pem: str) -> Certificate | str:
    """The certificate, or what is wrong with it. In a chain it is the one with the private key."""
    block = _PRIVATE_KEY.search(pem)
    if block is None:
        return "it has no private key in PEM beside the certificate"
    try:
        key = load_pem_private_key(block[0].encode(), password=None)
        chain = x509.load_pem_x509_certificates(pem.encode())
    except TypeError:
        return "its private key is encrypted: store it without a passphrase"
    except ValueError:
        return "its private key or its certificate is not PEM that can be read"
    if not isinstance(key, RSAPrivateKey):
        return "its private key is not an RSA key"
    for certificate in chain:
        if certificate.public_key() == key.public_key():
            thumbprint = urlsafe_b64encode(certificate.fingerprint(SHA256())).rstrip(b"=").decode()
            return Certificate(certificate.public_bytes(Encoding.PEM).decode(), thumbprint, Secret(block[0]))
    return "its private key belongs to another certificate"
