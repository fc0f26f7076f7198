"""TLS to mail servers: version 1.2 or newer, verified by chain and by name; environment variables can't change that."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from domain.errors import InvalidValue

# The codes of verdicts on a certificate, by OpenSSL's verification result (openssl-verification-options(1)).
_CERTIFICATE_FAULTS = {
    9: "certificate_not_yet_valid",
    10: "certificate_expired",
    18: "certificate_self_signed",
    19: "certificate_of_unknown_authority",
    20: "certificate_of_unknown_authority",
    62: "certificate_for_another_name",
    64: "certificate_for_another_address",
}


def client_context(ca_file: Path | None) -> ssl.SSLContext:
    """A context that trusts the system's authorities, and also those in `ca_file` (PEM).

    Not made by `ssl.create_default_context`, which obeys two environment variables: SSLKEYLOGFILE exposes the tokens,
    and SSL_CERT_FILE changes the trusted authorities without an entry in the configuration.

    Raises:
        InvalidValue: `ca_file` can't be read or holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    paths = ssl.get_default_verify_paths()
    if Path(paths.openssl_cafile).is_file():
        context.load_verify_locations(cafile=paths.openssl_cafile)
    if Path(paths.openssl_capath).is_dir():
        context.load_verify_locations(capath=paths.openssl_capath)
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except OSError as error:
            reason = error.strerror or "it holds no certificate in PEM"
            raise InvalidValue("ca_file", "ca_file_unusable", file=str(ca_file), reason=reason) from error
    return context


def describe(transport: asyncio.Transport) -> str:
    """The TLS version, and the subject, issuer and end of validity of the server's certificate, as text."""
    connection: ssl.SSLObject = transport.get_extra_info("ssl_object")
    certificate: Mapping[str, Any] = connection.getpeercert() or {}
    names = ", ".join(value for _, value in certificate.get("subjectAltName", ()))
    subject = _common_name(certificate.get("subject", ())) or names
    issuer = _common_name(certificate.get("issuer", ()))
    return (
        f"{connection.version()}, certificate of {subject}, issued by {issuer},"
        f" valid until {certificate.get('notAfter')}"
    )


def _common_name(name: Iterable[Iterable[tuple[str, str]]]) -> str:
    """The common name in a distinguished name as `getpeercert` nests it, else the organization, else ""."""
    parts = dict(pair for relative in name for pair in relative)
    return parts.get("commonName") or parts.get("organizationName") or ""


def certificate_fault(error: ssl.SSLCertVerificationError) -> str:
    """The code of the verdict on a certificate that failed verification."""
    return _CERTIFICATE_FAULTS.get(error.verify_code, "certificate_not_accepted")
