"""The vault and its table `vault`: credentials, pending device codes, second factors, hashes of passwords and client
keys, and the secrets of stored providers, all sealed.

Events refer to a row by its generation. A row that is missing or does not open makes its token, relay user,
administrator, client or provider unusable, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from domain.errors import VaultDamaged
from domain.outcomes import BrowserAuthorization, Credential, DeviceAuthorization
from domain.secret import Secret
from infrastructure.clock import instant_text, read_instant
from infrastructure.encryption.envelope import Place, Sealed, Sealer
from infrastructure.store.query import Query

CREDENTIAL = "credential"
DEVICE_CODE = "device_code"
CODE_VERIFIER = "code_verifier"
PASSWORD = "password"  # noqa: S105 - a kind of row
SIGN_IN_PASSWORD = "sign_in_password"  # noqa: S105 - a kind of row
"""The kinds of a relay user's password and of an administrator's."""
SECOND_FACTOR = "second_factor"
CLIENT_KEY = "client_key"
PROVIDER_SECRETS: Mapping[str, str] = MappingProxyType(
    {
        "client_secret": "provider_client_secret",
        "certificate": "provider_certificate",
        "service_account": "provider_service_account",
    }
)
"""The kind of each secret of a stored provider."""
# What an attempt keeps sealed while it is under way, by its flow. The application's own flow needs nothing.
PENDING = {"device": DEVICE_CODE, "browser": CODE_VERIFIER}


class VaultKey(NamedTuple):
    """The primary key of a row as it is stored, where `subject_id` is text."""

    subject_id: str
    kind: str
    generation: int


@dataclass(frozen=True)
class VaultRow:
    """A sealed value and its key; the subject is a token, relay user, administrator, API client or provider."""

    subject_id: UUID
    kind: str
    generation: int
    sealed: Sealed


def insert_vault_rows(query: Query, rows: Iterable[VaultRow]) -> None:
    """Store sealed values under keys that have none."""
    for row in rows:
        sealed = row.sealed
        query.run(
            "INSERT INTO vault (subject_id, kind, generation, algorithm, key_id, wrapped, body) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                str(row.subject_id),
                row.kind,
                row.generation,
                sealed.algorithm,
                sealed.key_id,
                sealed.wrapped,
                sealed.body,
            ),
        )


def replace_vault_row(query: Query, row: VaultRow) -> None:
    """Store a sealed value in the place of the one with its key; nothing is stored if there is none."""
    sealed, key = row.sealed, (str(row.subject_id), row.kind, row.generation)
    query.run(
        "UPDATE vault SET algorithm = ?, key_id = ?, wrapped = ?, body = ? "
        "WHERE subject_id = ? AND kind = ? AND generation = ?",
        (sealed.algorithm, sealed.key_id, sealed.wrapped, sealed.body, *key),
    )


def delete_vault_rows(query: Query, subject_id: UUID, kind: str) -> None:
    """Delete the sealed values of this kind that a subject has."""
    query.run("DELETE FROM vault WHERE subject_id = ? AND kind = ?", (str(subject_id), kind))


def find_sealed(query: Query, subject_id: UUID, kind: str, generation: int) -> Sealed | None:
    """The sealed value with this key; None if there is none."""
    rows = query.rows(
        "SELECT algorithm, key_id, wrapped, body FROM vault WHERE subject_id = ? AND kind = ? AND generation = ?",
        (str(subject_id), kind, generation),
    )
    if not rows:
        return None
    row = rows[0]
    return Sealed(row["algorithm"], row["key_id"], bytes(row["wrapped"]), bytes(row["body"]))


def read_vault_keys(query: Query) -> set[VaultKey]:
    """The key of every sealed value."""
    rows = query.rows("SELECT subject_id, kind, generation FROM vault")
    return {VaultKey(row["subject_id"], row["kind"], row["generation"]) for row in rows}


class Vault:
    """Seals secrets for the store and opens them again."""

    def __init__(self, sealer: Sealer, store_id: str) -> None:
        self._sealer = sealer
        self._store_id = store_id

    def seal_credential(self, token_id: UUID, generation: int, credential: Credential) -> VaultRow:
        """The row of a credential, for the transaction that records it."""
        value = {
            "access_token": credential.access_token.reveal(),
            "refresh_token": credential.refresh_token and credential.refresh_token.reveal(),
            "scope": credential.scope,
            "requested_scope": credential.requested_scope,
            "issued_at": instant_text(credential.issued_at),
            "expires_at": instant_text(credential.expires_at),
        }
        return self._seal(token_id, CREDENTIAL, generation, value)

    def credential(self, query: Query, token_id: UUID, generation: int) -> Credential:
        """Open a credential.

        Raises:
            VaultDamaged: its row is missing or does not open.
        """
        value = self._open(query, token_id, CREDENTIAL, generation)
        return Credential(
            Secret(value["access_token"]),
            Secret(value["refresh_token"]) if value["refresh_token"] else None,
            value["scope"],
            read_instant(value["issued_at"]),
            read_instant(value["expires_at"]),
            requested_scope=value.get("requested_scope"),
        )

    def seal_device_code(self, token_id: UUID, ordinal: int, pending: DeviceAuthorization) -> VaultRow:
        """The row of a pending attempt, for the transaction that records the request."""
        value = {
            "user_code": pending.user_code,
            "verification_uri": pending.verification_uri,
            "verification_uri_complete": pending.verification_uri_complete,
            "interval_seconds": pending.interval_seconds,
            "expires_at": instant_text(pending.expires_at),
            "state": pending.state.reveal(),
        }
        return self._seal(token_id, DEVICE_CODE, ordinal, value)

    def device_code(self, query: Query, token_id: UUID, ordinal: int) -> DeviceAuthorization:
        """Open a pending attempt.

        Raises:
            VaultDamaged: its row is missing or does not open.
        """
        value = self._open(query, token_id, DEVICE_CODE, ordinal)
        return DeviceAuthorization(
            value["user_code"],
            value["verification_uri"],
            value["verification_uri_complete"],
            value["interval_seconds"],
            read_instant(value["expires_at"]),
            Secret(value["state"]),
        )

    def seal_code_verifier(self, token_id: UUID, ordinal: int, pending: BrowserAuthorization) -> VaultRow:
        """The row of a pending browser sign-in, for the transaction that records the request."""
        value = {
            "authorization_uri": pending.authorization_uri,
            "expires_at": instant_text(pending.expires_at),
            "state": pending.state.reveal(),
        }
        return self._seal(token_id, CODE_VERIFIER, ordinal, value)

    def code_verifier(self, query: Query, token_id: UUID, ordinal: int) -> BrowserAuthorization:
        """Open a pending browser sign-in.

        Raises:
            VaultDamaged: its row is missing or does not open.
        """
        value = self._open(query, token_id, CODE_VERIFIER, ordinal)
        return BrowserAuthorization(
            value["authorization_uri"], read_instant(value["expires_at"]), Secret(value["state"])
        )

    def seal_password_hash(self, kind: str, subject_id: UUID, number: int, hashed: Secret) -> VaultRow:
        """The row of a password, whose `kind` is PASSWORD or SIGN_IN_PASSWORD, for the transaction of the change."""
        return self._seal(subject_id, kind, number, {"hash": hashed.reveal()})

    def password_hash(self, query: Query, kind: str, subject_id: UUID, number: int) -> Secret:
        """Open the hash of a password.

        Raises:
            VaultDamaged: its row is missing or does not open.
        """
        return Secret(self._open(query, subject_id, kind, number)["hash"])

    def seal_second_factor(
        self, administrator_id: UUID, number: int, key: Secret, recovery_digests: Sequence[str]
    ) -> VaultRow:
        """The row of a second factor and the digests of its recovery codes, for the transaction that records it."""
        value = {"key": key.reveal(), "recovery": list(recovery_digests)}
        return self._seal(administrator_id, SECOND_FACTOR, number, value)

    def second_factor(self, query: Query, administrator_id: UUID, number: int) -> tuple[Secret, list[str]]:
        """Open a second factor: its key, and the digests of its recovery codes.

        Raises:
            VaultDamaged: its row is missing or does not open.
        """
        value = self._open(query, administrator_id, SECOND_FACTOR, number)
        return Secret(value["key"]), value["recovery"]

    def seal_key_digest(self, client_id: UUID, number: int, digest: bytes) -> VaultRow:
        """The row of a client's key, for the transaction that records it."""
        return self._seal(client_id, CLIENT_KEY, number, {"digest": digest.hex()})

    def key_digest(self, query: Query, client_id: UUID, number: int) -> bytes:
        """Open the SHA-256 of the secret in a client's key.

        Raises:
            VaultDamaged: its row is missing or does not open.
        """
        return bytes.fromhex(self._open(query, client_id, CLIENT_KEY, number)["digest"])

    def seal_provider_secret(self, provider_id: UUID, secret: str, number: int, value: Secret) -> VaultRow:
        """The row of a stored provider's secret, for the transaction that records it."""
        return self._seal(provider_id, PROVIDER_SECRETS[secret], number, {"secret": value.reveal()})

    def provider_secret(self, query: Query, provider_id: UUID, secret: str, number: int) -> Secret:
        """Open a stored provider's secret.

        Raises:
            VaultDamaged: its row is missing or does not open.
        """
        return Secret(self._open(query, provider_id, PROVIDER_SECRETS[secret], number)["secret"])

    def seal_text(self, place: str, value: Secret) -> str:
        """Seal a secret that another table keeps, as one line; it opens only for the same `place`."""
        return self._sealer.seal(value.reveal().encode(), Place(self._store_id, place, "text", 0)).as_text()

    def text(self, place: str, sealed: str) -> Secret:
        """Open a text that `seal_text` returned.

        Raises:
            VaultDamaged: the text does not open, or was sealed for another place.
        """
        return Secret(self._sealer.open(Sealed.of_text(sealed), Place(self._store_id, place, "text", 0)).decode())

    def opens(self, query: Query, key: VaultKey) -> bool:
        """Whether there is a sealed value with this key that opens."""
        try:
            self._open(query, UUID(key.subject_id), key.kind, key.generation)
        except (VaultDamaged, ValueError, TypeError):
            return False
        return True

    def _seal(self, subject_id: UUID, kind: str, generation: int, value: dict[str, Any]) -> VaultRow:
        place = Place(self._store_id, str(subject_id), kind, generation)
        return VaultRow(subject_id, kind, generation, self._sealer.seal(json.dumps(value).encode(), place))

    def _open(self, query: Query, subject_id: UUID, kind: str, generation: int) -> dict[str, Any]:
        sealed = find_sealed(query, subject_id, kind, generation)
        if sealed is None:
            raise VaultDamaged("sealed_row_missing", kind=kind, number=generation, subject=str(subject_id))
        value: dict[str, Any] = json.loads(
            self._sealer.open(sealed, Place(self._store_id, str(subject_id), kind, generation))
        )
        return value
