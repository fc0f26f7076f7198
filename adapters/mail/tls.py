"""TLS towards mail servers: always verified, by chain and by name, TLS 1.2 or newer, whatever the environment says."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from domain.errors import InvalidValue

# What a person does about a certificate, by OpenSSL's verification result (openssl-verification-options(1)).
_ADVICE = {
    10: "it has expired and its owner has to renew it",
    9: "it is not valid yet, or this machine's clock is wrong",
    18: "it is self-signed; if the server is yours, set ca_file under [mail]",
    19: "its authority is unknown; if the server is yours, set ca_file under [mail]",
    20: "its authority is unknown; if the server is yours, set ca_file under [mail]",
    62: "it is for another name; set Server to a name that the certificate has",
    64: "it is not for this IP address; set Server to a name that the certificate has",
}


def client_context(ca_file: Path | None) -> ssl.SSLContext:
    """A context that trusts the system's authorities, and also those in `ca_file` (PEM).

    Not `ssl.create_default_context`: that one obeys SSLKEYLOGFILE, which gives the tokens away, and
    SSL_CERT_FILE, which changes whom we trust without a word in our configuration.

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
            problem = error.strerror or "it holds no certificate in PEM"
            raise InvalidValue("ca_file", f"{ca_file} can't be used: {problem}") from error
    return context


def describe(connection: ssl.SSLSocket) -> str:
    """The TLS version and the server's certificate: for whom, by whom, until when."""
    certificate: Mapping[str, Any] = connection.getpeercert() or {}
    names = ", ".join(value for _, value in certificate.get("subjectAltName", ()))
    subject = _common_name(certificate.get("subject", ())) or names
    issuer = _common_name(certificate.get("issuer", ()))
    return (
        f"{connection.version()}, certificate of {subject}, issued by {issuer},"
        f" valid until {certificate.get('notAfter')}"
    )


def _common_name(name: Iterable[Iterable[tuple[str, str]]]) -> str:
    """The most telling part of a distinguished name, as `getpeercert` nests it."""
    parts = dict(pair for relative in name for pair in relative)
    return parts.get("commonName") or parts.get("organizationName") or ""


def advice(error: ssl.SSLCertVerificationError) -> str:
    """What is wrong with the certificate, and what to do."""
    return _ADVICE.get(error.verify_code, error.verify_message)
