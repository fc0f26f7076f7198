"""Tokens, credentials and machines of the size that real ones have, on a store of their own."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from domain.outcomes import Credential, Granted, Identity
from domain.profile import Profile
from domain.secret import Secret
from domain.smtp_group import update_in_concert
from domain.token import Token
from infrastructure.clock import SystemClock
from infrastructure.encryption.envelope import KEY_BYTES, Sealer
from infrastructure.fleet.settings import SettingsService
from infrastructure.store.claim_rows import ClaimKey, ClaimRow, insert_claim
from infrastructure.store.event_log import EventLog
from infrastructure.store.open import create_store
from infrastructure.store.store import Store, UnitOfWork
from infrastructure.store.vault import Vault, VaultRow

NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
ACCOUNT = "scan@contoso.com"
_SCOPE = "https://outlook.office.com/SMTP.Send offline_access"
_ACCESS_TOKEN_BYTES, _REFRESH_TOKEN_BYTES = 1125, 900
"""In base64 these are 1,500 and 1,200 characters, as Entra's are."""
_LIFE = 100
"""Events of one token: some days of renewals."""


@dataclass
class Material:
    """A store with its log and vault, and the tokens put into it."""

    store: Store
    log: EventLog
    vault: Vault
    tokens: list[Token] = field(default_factory=list)

    @classmethod
    def on(cls, store: Store, sealer: Sealer | None = None) -> Material:
        """On an empty store, with this sealer or a random key."""
        sealer = sealer or Sealer(secrets.token_bytes(KEY_BYTES))
        vault = Vault(sealer, create_store(store, sealer))
        return cls(store, EventLog(store), vault)

    def add_tokens(self, count: int) -> None:
        """Add tokens that are Retrieved."""
        tokens = [Token.create(uuid4(), by="administrator:root", now=NOW) for _ in range(count)]
        for token in tokens:
            obtain(token, NOW)
        put = [self.vault.seal_credential(token.id, 1, credential(NOW)) for token in tokens]
        self.log.save(*tokens, unit_of_work=UnitOfWork(put=put))
        self.tokens += tokens

    def renewals(self, count: int | None = None) -> list[tuple[Token, UnitOfWork]]:
        """A renewal of every token, or of the first `count`, claimed, decided and sealed, but not stored yet."""
        renewals = [(token, self._renew(token)) for token in self.tokens[:count]]
        with self.store.writing() as query:
            for _, unit_of_work in renewals:
                for claim_key in unit_of_work.release:
                    insert_claim(query, claim_key, ClaimRow(claim_key.attempt_id, "node", "boot", "process", 0.0))
        return renewals

    def _renew(self, token: Token) -> UnitOfWork:
        held = token.state.credential
        assert held
        claim_key = ClaimKey("renewal", token.id, uuid4().hex, held.number)
        renewed = renew(token, claim_key.attempt_id)
        put = self.vault.seal_credential(token.id, token.state.generations, renewed)
        return UnitOfWork(put=[put], release=[claim_key])

    def add_machines(self, settings: int) -> None:
        """Add machines with seven settings each, every token Retrieved, until there are that many `settings`."""
        service, names = SettingsService(self.log, SystemClock(), ["contoso"]), list[str]()
        while len(names) < settings:
            names += service.add_machine(f"machine-{len(names) // 7}", "sharp-bp", "administrator:root")
        retrieve_all(self.log, self.vault, NOW)

    def add_history(self, events: int) -> None:
        """Add tokens with a life of renewals behind them, until the log has that many more `events`."""
        for _ in range(0, events, _LIFE):
            token = Token.create(uuid4(), by="administrator:root", now=NOW)
            obtain(token, NOW)
            while token.version < _LIFE:
                renew(token, uuid4().hex)
            self.log.save(token)


def retrieve_all(log: EventLog, vault: Vault, now: datetime) -> None:
    """Let every token that a setting has be Retrieved at `now`."""
    with log.store.reading() as query:
        rows = query.rows("SELECT id, token_id FROM profile")
    users: dict[str, list[Profile]] = {}
    for row in rows:
        users.setdefault(row["token_id"], []).append(log.load(Profile, UUID(row["id"])))
    changed, put = list[Token | Profile](), list[VaultRow]()
    for token_id, profiles in users.items():
        token = log.token(UUID(token_id))
        changed += [token, *update_in_concert(obtain(token, now), profiles)]
        put.append(vault.seal_credential(token.id, 1, credential(now)))
    log.save(*changed, unit_of_work=UnitOfWork(put=put))


def credential(now: datetime) -> Credential:
    """A credential issued at `now`, for an hour."""
    access, refresh = secrets.token_urlsafe(_ACCESS_TOKEN_BYTES), secrets.token_urlsafe(_REFRESH_TOKEN_BYTES)
    return Credential(Secret(access), Secret(refresh), _SCOPE, now, now + timedelta(hours=1))


def obtain(token: Token, now: datetime) -> Token.Event:
    """Let a token be requested and Retrieved at `now`; the last event of that."""
    attempt_id, identity = uuid4().hex, Identity(ACCOUNT, str(uuid4()), str(uuid4()))
    token.request(
        attempt_id,
        flow="device",
        profile="machine-0/smtp-service",
        provider="contoso",
        account=ACCOUNT,
        expires_at=now + timedelta(minutes=15),
        by="operator:root",
        now=now,
    )
    token.retrieve(attempt_id, Granted(credential(now), identity), identity, by="worker", now=now)
    event = token.pending_events[-1]
    assert isinstance(event, Token.Event)
    return event


def renew(token: Token, attempt_id: str) -> Credential:
    """Let a token be renewed when it ends; the new credential."""
    held = token.state.credential
    assert held
    renewed = credential(held.expires_at)
    token.renew(attempt_id, held.number, Granted(renewed, None), by="worker", now=held.expires_at)
    return renewed
