"""Keys and certificates that a client registration authenticates with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

BEGINS_AT = datetime(2020, 1, 1, tzinfo=UTC)
LASTS = timedelta(days=365 * 50)


@cache
def rsa_key(_: str = "ours") -> rsa.RSAPrivateKey:
    """One key for each name, as making one takes long."""
    return rsa.generate_private_key(65537, 2048)


def private_pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def certificate_pem(key: rsa.RSAPrivateKey, lasts: timedelta = LASTS, begins_at: datetime = BEGINS_AT) -> str:
    """The certificate alone, as it is registered at a provider."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mailtoken")])
    serial = x509.random_serial_number()
    builder = x509.CertificateBuilder(name, name, key.public_key(), serial, begins_at, begins_at + lasts)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
