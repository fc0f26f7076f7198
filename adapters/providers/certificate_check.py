"""The part of `provider check` about certificates: the provider's TLS certificate and the client's own certificate."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from adapters.http_client import HttpClient, NoReply
from adapters.providers.check_report import CheckItem, host_and_port, printable
from adapters.providers.client_authentication import Certificate
from domain.errors import Fact

# Certificates of public authorities are usually renewed a month ahead; two weeks before the end, renewal has failed.
SERVER_CERTIFICATE_DAYS = 14
CLIENT_CERTIFICATE_DAYS = 30
_RENEW = "renew_server_certificate"
# The finding and the remedy, by OpenSSL's verification result (openssl-verification-options(1)).
_VERIFICATION: Mapping[int, tuple[str, str]] = {
    9: ("server_certificate_not_valid_yet", "set_clock_or_ask_owner"),
    10: ("server_certificate_expired", _RENEW),
    18: ("server_certificate_self_signed", "set_ca_file_for_own_server"),
    19: ("server_certificate_authority_unknown", "set_ca_file_for_own_authority"),
    20: ("server_certificate_authority_unknown", "set_ca_file_for_own_authority"),
    62: ("server_certificate_for_another_name", "correct_issuer_to_certificate"),
    64: ("server_certificate_not_for_address", "correct_issuer_to_certificate"),
}


def check_server_certificate(http: HttpClient, url: str, provider: str, now: datetime) -> CheckItem:
    """Check that the certificate of the server at `url` is accepted, and how long it is still valid."""
    subject, place = "tls_certificate", host_and_port(url)
    fields: dict[str, Fact]
    try:
        certificate = http.server_certificate(url)
    except NoReply as trouble:
        if trouble.verify_code is not None:
            code, remedy = _VERIFICATION.get(trouble.verify_code, ("server_certificate_not_verified", _RENEW))
            return CheckItem(subject, "failed", code, remedy, {"place": place})
        if trouble.tls_reason is not None:
            fields = {"place": place, "reason": trouble.tls_reason}
            return CheckItem(subject, "failed", "no_tls", "look_for_proxy_that_breaks_tls", fields)
        fields = {"place": place, "why": trouble.why, "provider": provider}
        return CheckItem(subject, "failed", "no_connection", "let_through", fields)
    ends_at = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
    names = printable(", ".join(str(value) for _, value in certificate.get("subjectAltName", ())[:5]))
    days, is_over = _days_left(ends_at, now)
    fields = {"place": place, "names": names, "until": f"{ends_at:%Y-%m-%d}", "days": days}
    if is_over:
        return CheckItem(subject, "failed", "server_certificate_ended", _RENEW, fields)
    if days < SERVER_CERTIFICATE_DAYS:
        return CheckItem(subject, "warning", "server_certificate_lasts", _RENEW, fields)
    return CheckItem(subject, "ok", "server_certificate_lasts", None, fields)


def check_client_certificate(name: str, configured: Certificate, now: datetime) -> CheckItem:
    """Check how long the client's own certificate is valid; Entra shows its thumbprint under Certificates & secrets."""
    subject, remedy = "client_certificate_expiry", "make_new_client_certificate"
    certificate = x509.load_pem_x509_certificate(configured.certificate.encode())
    thumbprint = certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - a name, not a proof
    ends_at = certificate.not_valid_after_utc
    days, is_over = _days_left(ends_at, now)
    fields: dict[str, Fact] = {
        "credential": name,
        "thumbprint": thumbprint,
        "until": f"{ends_at:%Y-%m-%d}",
        "days": days,
    }
    if now < certificate.not_valid_before_utc:
        return CheckItem(subject, "failed", "client_certificate_not_valid_yet", "set_clock", fields)
    if is_over:
        return CheckItem(subject, "failed", "client_certificate_ended", remedy, fields)
    if days < CLIENT_CERTIFICATE_DAYS:
        return CheckItem(subject, "warning", "client_certificate_lasts", remedy, fields)
    return CheckItem(subject, "ok", "client_certificate_lasts", None, fields)


def _days_left(ends_at: datetime, now: datetime) -> tuple[int, bool]:
    left = ends_at - now
    return left.days, left <= timedelta(0)
