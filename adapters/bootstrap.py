"""The one place that wires everything."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from eventsourcing.persistence import PersistenceError

from adapters.mail.server import MailServerClient
from adapters.notify.channels import Command, Mail, Webhook
from adapters.providers import ProviderSettings, build_provider
from domain.errors import Refused, StoreRefused, Unreachable
from domain.ports import Clock, MailServer, Provider
from domain.secret import Secret
from infrastructure.administrators import Administrators
from infrastructure.apply import Applier
from infrastructure.attention import Attention
from infrastructure.audit import Audit
from infrastructure.claims import Claims
from infrastructure.clients import Clients
from infrastructure.clock import SystemClock
from infrastructure.config import Config, ProviderTable, load_config, write_config
from infrastructure.escrow import Escrow
from infrastructure.exchanges import Exchanges
from infrastructure.fleet import Fleet
from infrastructure.hand_outs import HandOuts
from infrastructure.locate import FILE_NAME
from infrastructure.log import EventLog
from infrastructure.mail_service import MailService
from infrastructure.needs import Needs
from infrastructure.notices import Channel, Notifier
from infrastructure.one_time import BegunSignIns
from infrastructure.opening import create_store, has_store, open_store, read_meta
from infrastructure.passwords import PasswordHasher
from infrastructure.redaction import configure_logging
from infrastructure.relay_users import RelayUsers
from infrastructure.renewals import RenewalWorker
from infrastructure.rows import PROJECTION_VERSION
from infrastructure.sealing import Sealer, create_key_file, read_key
from infrastructure.sessions import Sessions
from infrastructure.settings_service import SettingsService
from infrastructure.sqlite import SqliteStore
from infrastructure.status import SettingStatus, read_statuses
from infrastructure.store import Store
from infrastructure.timeline import Timeline
from infrastructure.token_service import TokenService
from infrastructure.vault import Vault
from infrastructure.worker import Worker

log = structlog.get_logger("mailtoken")


@dataclass(frozen=True)
class Initialised:
    """What `initialise` made."""

    config: Path
    key: Path
    store: str


@dataclass(frozen=True)
class Service:
    """Everything the service offers, wired."""

    config: Config
    clock: Clock
    settings: SettingsService
    tokens: TokenService
    attention: Attention
    mail: MailService
    audit: Audit
    worker: Worker
    renewals: RenewalWorker
    notifier: Notifier
    relay_users: RelayUsers
    fleet: Fleet
    needs: Needs
    timeline: Timeline
    applier: Applier
    administrators: Administrators
    sessions: Sessions
    begun_sign_ins: BegunSignIns
    clients: Clients
    hand_outs: HandOuts
    events: EventLog


@dataclass(frozen=True)
class Offline:
    """What can be read without the service, straight from the store."""

    audit: Audit
    _events: EventLog
    _clock: Clock

    def statuses(self) -> list[SettingStatus]:
        """Every setting now."""
        with self._events.store.reading() as query:
            return read_statuses(query, self._clock.now())


def initialise(directory: Path, url: str | None = None) -> Initialised:
    """Make configuration, key and store in `directory`, whichever of them is missing; nothing is overwritten.

    Raises:
        Refused: all of them are there already.
        StoreRefused: a store is there that the key does not open.
        Unreachable: the database server.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / FILE_NAME
    if not path.exists():
        write_config(path, url)
    config = load_config(path)
    key = config.path(config.store.key_file)
    with _store_errors():
        store = _store(config)
        try:
            there, has_key = has_store(store), key.exists()
            if there and has_key:
                raise Refused(f"{directory} is initialised already: nothing was changed")
            if there:
                raise StoreRefused(
                    f"there is a store but no key at {key}: restore the key; a new one would not open it"
                )
            if not has_key:
                create_key_file(key)
            create_store(store, read_key(key, os.environ))
        finally:
            store.close()
    return Initialised(path, key, config.store.url or str(config.path(config.store.path)))


@contextmanager
def open_service(
    config: Config,
    *,
    clock: Clock | None = None,
    providers: dict[str, Provider] | None = None,
    server: MailServer | None = None,
) -> Iterator[Service]:
    """The service on its store, what an earlier run left behind recovered; the worker is not started.

    Raises:
        StoreRefused: not this key, a newer store, or another service is running on it.
        InvalidValue: the configuration names what can't be read.
        Unreachable: the database server.
    """
    clock = clock or SystemClock()
    sealer = read_key(config.path(config.store.key_file), os.environ)
    with _store_errors(), _opened(config, sealer) as (events, store_id), _alone(config.path(config.store.escrow)):
        _bring_projection_up(events)
        if providers is None:
            providers = {
                name: build_provider(provider_settings(config, name, table), clock)
                for name, table in config.providers.items()
            }
        vault, escrow = Vault(sealer, store_id), Escrow(config.path(config.store.escrow), sealer, store_id)
        claims = Claims(events.store, str(config.path(config.store.escrow).resolve()))
        tokens = TokenService(Exchanges(events, vault, escrow, claims, providers, clock))
        if server is None:
            server = MailServerClient(config.path(config.mail.ca_file) if config.mail.ca_file else None)
        replies = tokens.recover()
        if replies:
            log.warning("replies_recovered", replies=replies)
        mail = MailService(tokens, server, clock, config.send.profile)
        limits = {name: table.limits for name, table in config.providers.items()}
        secrets_end = {name: table.client_secret_expires_at for name, table in config.providers.items()}
        attention, audit = Attention(tokens, clock, limits, secrets_end), Audit(events)
        passwords, sessions = PasswordHasher(), Sessions(events.store, clock, config.server.members_for)
        yield Service(
            config,
            clock,
            SettingsService(events, clock, list(providers)),
            tokens,
            attention,
            mail,
            audit,
            Worker(tokens),
            RenewalWorker(events, tokens, clock, limits),
            Notifier(events.store, claims, clock, attention, _channels(config, mail)),
            RelayUsers(events, vault, tokens, clock, passwords),
            Fleet(events.store, clock, attention, audit),
            Needs(events.store, clock, attention, audit),
            Timeline(events),
            Applier(events, tokens, clock, list(providers)),
            Administrators(events, vault, clock, passwords, sessions),
            sessions,
            BegunSignIns(events.store, vault, clock),
            Clients(events, vault, clock),
            HandOuts(events, tokens, clock),
            events,
        )


def serve(config_path: Path) -> None:
    """Run the service until it is told to stop.

    Raises:
        as `open_service`.
    """
    from adapters.http.callback import listening
    from adapters.http.server import run

    configure_logging()
    with open_service(load_config(config_path)) as service:
        service.worker.start()
        service.renewals.start()
        service.notifier.start()
        try:
            with listening(service.config, service.tokens):
                run(service)
        finally:
            service.notifier.stop()
            service.renewals.stop()
            service.worker.stop()


@contextmanager
def offline(config_path: Path) -> Iterator[Offline]:
    """The store without the service, also beside a service that runs.

    As root this works as the store's owner, so that it never leaves files the service can't open.

    Raises:
        StoreRefused: not this key, or a newer store.
        InvalidValue: the configuration.
        Unreachable: the database server.
    """
    config = load_config(config_path)
    sealer = read_key(config.path(config.store.key_file), os.environ)
    with _store_errors(), _as_owner(config), _opened(config, sealer) as (events, _):
        yield Offline(Audit(events), events, SystemClock())


def _store(config: Config) -> Store:
    if not config.store.url:
        return SqliteStore(config.path(config.store.path))
    try:
        from infrastructure.postgres import PostgresStore
    except ImportError:
        raise StoreRefused("PostgreSQL needs one more package: pip install 'mailtoken[postgres]'") from None
    password = (
        config.secret("[store] password_file", config.store.password_file) if config.store.password_file else None
    )
    return PostgresStore(config.store.url, password)


@contextmanager
def _opened(config: Config, sealer: Sealer) -> Iterator[tuple[EventLog, str]]:
    store = _store(config)
    try:
        store_id = open_store(store, sealer)
        yield EventLog(store), store_id
    finally:
        store.close()


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except PersistenceError as error:
        raise Unreachable(f"the store does not answer: {str(error).splitlines()[0]}") from None


def _bring_projection_up(events: EventLog) -> None:
    with events.store.reading() as query:
        version = int(read_meta(query)["projection_version"])
    if version != PROJECTION_VERSION:
        log.info("projection_rebuilding", version=PROJECTION_VERSION)
        rebuilt = Audit(events).rebuild(lambda done: log.info("projection_rebuilding", events=done))
        log.info("projection_rebuilt", events=rebuilt)


@contextmanager
def _alone(escrow: Path) -> Iterator[None]:
    """One service on this machine's escrow: two would read each other's replies."""
    escrow.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (escrow / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreRefused(f"a service is running on {escrow.parent} already") from None
        yield


@contextmanager
def _as_owner(config: Config) -> Iterator[None]:
    path = config.path(config.store.path)
    owner = path.stat().st_uid if not config.store.url and path.exists() else os.geteuid()
    before = os.geteuid()
    if before != 0 or owner == before:
        yield
        return
    os.seteuid(owner)
    try:
        yield
    finally:
        os.seteuid(before)


def _channels(config: Config, mail: MailService) -> Iterator[Channel]:
    table = config.notify
    if table.command:
        yield Command(table.command)
    if table.webhook:
        yield Webhook(table.webhook, config.path(table.webhook_ca_file) if table.webhook_ca_file else None)
    if table.mail_profile:
        yield Mail(mail, table.mail_profile, table.mail_to)


def provider_settings(config: Config, name: str, table: ProviderTable) -> ProviderSettings:
    """What the configuration says of a provider, its secrets read.

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
        certificates=secrets("certificate_file", table.certificate_files),
        tenant=table.tenant,
        issuer=table.issuer,
        scopes=table.scopes,
        app_scopes=table.app_scopes,
        error_overrides=table.errors,
        account_claims=table.account_claims,
        ca_file=config.path(table.ca_file) if table.ca_file else None,
        proxy=table.proxy,
        timeout_seconds=table.timeout,
    )
