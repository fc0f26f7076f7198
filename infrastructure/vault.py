"""The vault: where credentials, pending device codes and hashes of passwords and client keys are, sealed.

Events refer to a row by its generation. A row that is missing or does not open quarantines its token, or relay user,
and nothing else.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from domain.errors import VaultDamaged
from domain.outcomes import BrowserAuthorization, Credential, DeviceAuthorization
from domain.secret import Secret
from infrastructure.clock import instant_text, read_instant
from infrastructure.sealing import Place, Sealed, Sealer
from infrastructure.store import Query, VaultRow

CREDENTIAL = "credential"
DEVICE_CODE = "device_code"
CODE_VERIFIER = "code_verifier"
PASSWORD = "password"  # noqa: S105 - a kind of row
SIGN_IN_PASSWORD = "sign_in_password"  # noqa: S105 - a kind of row
CLIENT_KEY = "client_key"
# What an attempt keeps sealed while it is under way, by its flow. The application's own flow needs nothing.
PENDING = {"device": DEVICE_CODE, "browser": CODE_VERIFIER}


class Vault:
    """Seals what goes into the store and opens what comes out of it."""

    def __init__(self, sealer: Sealer, store_id: str) -> None:
        self._sealer = sealer
        self._store_id = store_id

    def seal_credential(self, token_id: UUID, generation: int, credential: Credential) -> VaultRow:
        """The row of a credential, for the transaction that records it."""
        value = {
            "access_token": credential.access_token.reveal(),
            "refresh_token": credential.refresh_token and credential.refresh_token.reveal(),
            "scope": credential.scope,
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

    def seal_password_hash(self, user_id: UUID, number: int, hashed: Secret) -> VaultRow:
        """The row of a relay user's password, for the transaction that records the change."""
        return self._seal(user_id, PASSWORD, number, {"hash": hashed.reveal()})

    def password_hash(self, query: Query, user_id: UUID, number: int) -> Secret:
        """Open the hash of a relay user's password.

        Raises:
            VaultDamaged: its row is missing or does not open.
        """
        return Secret(self._open(query, user_id, PASSWORD, number)["hash"])

    def seal_sign_in_hash(self, administrator_id: UUID, number: int, hashed: Secret) -> VaultRow:
        """The row of an administrator's password, for the transaction that records the change."""
        return self._seal(administrator_id, SIGN_IN_PASSWORD, number, {"hash": hashed.reveal()})

    def sign_in_hash(self, query: Query, administrator_id: UUID, number: int) -> Secret:
        """Open the hash of an administrator's password.

        Raises:
            VaultDamaged: its row is missing or does not open.
        """
        return Secret(self._open(query, administrator_id, SIGN_IN_PASSWORD, number)["hash"])

    def seal_key_digest(self, client_id: UUID, number: int, digest: bytes) -> VaultRow:
        """The row of a client's key, for the transaction that records it."""
        return self._seal(client_id, CLIENT_KEY, number, {"digest": digest.hex()})

    def key_digest(self, query: Query, client_id: UUID, number: int) -> bytes:
        """Open the SHA-256 of the secret in a client's key.

        Raises:
            VaultDamaged: its row is missing or does not open.
        """
        return bytes.fromhex(self._open(query, client_id, CLIENT_KEY, number)["digest"])

    def seal_text(self, place: str, value: Secret) -> str:
        """Seal what is kept in a row of its own, at this `place`, as one line."""
        return self._sealer.seal(value.reveal().encode(), Place(self._store_id, place, "text", 0)).as_text()

    def text(self, place: str, sealed: str) -> Secret:
        """Open what `seal_text` gave.

        Raises:
            VaultDamaged: it does not open, or was sealed for another place.
        """
        return Secret(self._sealer.open(Sealed.of_text(sealed), Place(self._store_id, place, "text", 0)).decode())

    def _seal(self, token_id: UUID, kind: str, generation: int, value: dict[str, Any]) -> VaultRow:
        place = Place(self._store_id, str(token_id), kind, generation)
        return VaultRow(token_id, kind, generation, self._sealer.seal(json.dumps(value).encode(), place))

    def _open(self, query: Query, token_id: UUID, kind: str, generation: int) -> dict[str, Any]:
        rows = query.rows(
            "SELECT algorithm, key_id, wrapped, body FROM vault WHERE token_id = ? AND kind = ? AND generation = ?",
            (str(token_id), kind, generation),
        )
        if not rows:
            raise VaultDamaged(f"the {kind} {generation} of token {token_id} is missing from the vault")
        row = rows[0]
        sealed = Sealed(row["algorithm"], row["key_id"], bytes(row["wrapped"]), bytes(row["body"]))
        value: dict[str, Any] = json.loads(
            self._sealer.open(sealed, Place(self._store_id, str(token_id), kind, generation))
        )
        return value
