"""The ends of the certificates that the configuration names: the listeners', and ours for signing in to providers."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509

from domain.store_attention import CertificateExpiry
from infrastructure.config.tables import Config


def certificate_expiries(config: Config) -> list[CertificateExpiry]:
    """The end of every certificate, as its file says now.

    A file without a certificate in PEM is left out: it is a fault of the configuration, or PKCS#12, which
    `provider check` reads with its password.
    """
    return [CertificateExpiry(table, certificate.not_valid_after_utc) for table, certificate in _certificates(config)]


def last_expiries(config: Config) -> list[CertificateExpiry]:
    """The end of the certificate of each table that lasts longest: a provider may have a new one beside the old."""
    latest = {one.table: one for one in sorted(certificate_expiries(config), key=lambda one: one.at)}
    return [latest[table] for table in sorted(latest)]


def _certificates(config: Config) -> Iterator[tuple[str, x509.Certificate]]:
    for table, file in _files(config):
        try:
            yield table, x509.load_pem_x509_certificates(config.path(file).read_bytes())[0]
        except (OSError, ValueError):
            continue


def _files(config: Config) -> Iterator[tuple[str, str]]:
    tables = {"[server]": config.server, "[server.callback]": config.server.callback, "[relay]": config.relay}
    for name, table in tables.items():
        if table and table.certificate_file:
            yield name, table.certificate_file
    for name, provider in config.providers.items():
        yield from ((f"[providers.{name}]", file) for file in provider.certificate_files)
