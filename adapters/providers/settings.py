"""The settings of one provider: the table `[providers.NAME]` of the configuration, with its secrets loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

from domain.errors import Fact, InvalidValue
from domain.secret import Secret
from infrastructure.config.tables import Config, ProviderKind, ProviderTable


@dataclass(frozen=True)
class ProviderSettings:
    """One authorization server and the client registration there; a public client has no secret and no certificate.

    `microsoft` needs `tenant`, or `issuer` for a private authority; `oidc` needs `issuer`. `account_claims` are the
    ID token claims that may hold the account's address, in order of preference. `proxy` may hold a password.

    The client authenticates with the first of `client_assertion_file`, `certificates` and `client_secrets` that the
    provider does not refuse. The assertion is read for each request. `service_account` is a key of Google's, as JSON.
    A certificate is PEM together with its private key. `app_scopes` are for the app-only flow.
    `error_overrides` put error codes in another class, see `error_table.CLASSES`. `revokes_one_grant`: a revocation
    (RFC 7009) ends one grant and no other grant of the same account. `allow_private` has the hosts that may be at
    private addresses, besides that of the issuer unless the provider `is_stored` and not of the configuration file.
    """

    name: str
    kind: ProviderKind
    client_id: str
    tenant: str | None = None
    issuer: str | None = None
    scopes: tuple[str, ...] = ()
    account_claims: tuple[str, ...] = ("preferred_username", "email", "upn")
    ca_file: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    timeout_seconds: float = 30
    client_secrets: tuple[Secret, ...] = ()
    certificates: tuple[Secret, ...] = ()
    app_scopes: tuple[str, ...] = ()
    error_overrides: Mapping[str, str] = field(default_factory=dict)
    revokes_one_grant: bool = False
    client_assertion_file: Path | None = None
    service_account: Secret | None = None
    allow_private: tuple[str, ...] = ()
    is_stored: bool = False

    def invalid(self, key: str, code: str, **fields: Fact) -> InvalidValue:
        """An error about one of these settings, with the setting's name in the configuration."""
        return InvalidValue(f"providers.{self.name}.{key}", code, **fields)


# The first octet of DER, which PKCS#12 is (RFC 7292).
_DER_SEQUENCE = b"\x30"


def _certificate(config: Config, name: str, table: ProviderTable, file: str) -> Secret:
    """A certificate with its private key as PEM, from PEM or from PKCS#12."""
    key = f"[providers.{name}] certificate_file"
    content = config.secret_bytes(key, file)
    # A file that begins with the digit zero is neither.
    if not content.startswith(_DER_SEQUENCE) or b"-----BEGIN" in content:
        return Secret(config.secret(key, file))
    password = None
    if table.certificate_password_file:
        secret = config.secret(f"[providers.{name}] certificate_password_file", table.certificate_password_file)
        password = secret.encode()
    try:
        private_key, certificate, chain = load_key_and_certificates(content, password)
    except (ValueError, TypeError):
        raise InvalidValue(key, "pkcs12_unreadable", file=str(config.path(file))) from None
    if private_key is None or certificate is None:
        raise InvalidValue(key, "certificate_without_key")
    pem = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    certificates = (one.public_bytes(Encoding.PEM) for one in (certificate, *chain))
    return Secret(b"".join([pem, *certificates]).decode())


def provider_settings(config: Config, name: str, table: ProviderTable) -> ProviderSettings:
    """The settings of a provider, with the secrets read from their files.

    Raises:
        InvalidValue: a secret can't be read.
    """

    def secrets(key: str, names: tuple[str, ...]) -> tuple[Secret, ...]:
        return tuple(Secret(config.secret(f"[providers.{name}] {key}", file)) for file in names)

    return ProviderSettings(
        name=name,
        kind=table.kind,
        client_id=table.client_id,
        client_secrets=secrets("client_secret_file", table.client_secret_files),
        certificates=tuple(_certificate(config, name, table, file) for file in table.certificate_files),
        tenant=table.tenant,
        issuer=table.issuer,
        scopes=table.scopes,
        app_scopes=table.app_scopes,
        error_overrides=table.errors,
        revokes_one_grant=table.revokes_one_grant,
        client_assertion_file=config.path(table.client_assertion_file) if table.client_assertion_file else None,
        service_account=secrets("service_account_file", (table.service_account_file,))[0]
        if table.service_account_file
        else None,
        account_claims=table.account_claims,
        ca_file=config.path(table.ca_file) if table.ca_file else None,
        proxy=table.proxy,
        timeout_seconds=table.timeout,
        allow_private=table.allow_private,
    )
