"""Creates the objects of the service and connects them; no other module does."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime

import structlog

from adapters.mail.mail_server import MailServerClient
from adapters.notify.channels import Command, Mail, Webhook
from adapters.providers import build_provider
from adapters.providers.settings import provider_settings
from adapters.providers.stored import stored_provider_builder
from adapters.store_access import (
    only_service,
    opened_store,
    store_errors,
)
from domain.ports import Clock, MailServer, Provider
from infrastructure.access.administrators import Administrators
from infrastructure.access.api_clients import ApiClients
from infrastructure.access.one_time_links import PendingSignIns
from infrastructure.access.password_hashing import PasswordHasher
from infrastructure.access.relay_users import RelayUsers
from infrastructure.access.sessions import Sessions
from infrastructure.clock import SystemClock
from infrastructure.config.tables import Config
from infrastructure.encryption.key_file import read_key
from infrastructure.evidence.checkpoint_worker import CheckpointWorker
from infrastructure.evidence.log_evidence import LogEvidence
from infrastructure.fleet.apply import Applier
from infrastructure.fleet.settings import SettingsService
from infrastructure.jobs.jobs import Jobs, UseCases
from infrastructure.mail import MailService
from infrastructure.mail_counters import MailCounters
from infrastructure.mail_counts import MailCounts
from infrastructure.node_reports import NodeReports
from infrastructure.notifications import Channel, Notifier
from infrastructure.providers.known_providers import KnownProviders
from infrastructure.providers.stored_providers import StoredProviders
from infrastructure.queries.attention import Attention
from infrastructure.queries.attention_page import AttentionQuery
from infrastructure.queries.audit import Audit
from infrastructure.queries.history import History
from infrastructure.queries.home import HomeQuery
from infrastructure.queries.machines import MachinesQuery
from infrastructure.queries.settings_page import SettingsPageQuery
from infrastructure.queries.store_state import StoreStateQuery, read_providers_left
from infrastructure.queries.verifier import Verifier
from infrastructure.service import Service
from infrastructure.store.event_log import EventLog
from infrastructure.store.open import looks_new, read_meta
from infrastructure.store.schema import PROJECTION_VERSION
from infrastructure.store.store import Store
from infrastructure.store.vault import Vault
from infrastructure.tokens.access_token_cache import AccessTokenCache
from infrastructure.tokens.claims import Claims
from infrastructure.tokens.escrow import Escrow
from infrastructure.tokens.exchange import TokenExchange
from infrastructure.tokens.polling_worker import PollingWorker
from infrastructure.tokens.renewal_worker import RenewalWorker
from infrastructure.tokens.token_service import TokenService
from infrastructure.upkeep.keyed_chain_marker import KeyedChainMarker
from infrastructure.upkeep.row_scan import RowWatch

log = structlog.get_logger("mailtoken")


@contextmanager
def open_service(
    config: Config,
    *,
    clock: Clock | None = None,
    providers: dict[str, Provider] | None = None,
    server: MailServer | None = None,
) -> Iterator[Service]:
    """Open the store, recover the replies that an earlier run left, and create the service; no worker is started.

    Raises:
        StoreRefused: the key is not the store's own, the store has another version, or another service runs on it.
        InvalidValue: a value of the configuration is wrong, or a file that it names can't be read.
        Unreachable: the database server does not answer.
    """
    clock = clock or SystemClock()
    sealer = read_key(config.path(config.store.key_file), os.environ)
    with store_errors(), opened_store(config, sealer) as (events, store_id), only_service(config):
        if looks_new(events.store):
            log.info("store_is_empty", why="new_or_a_copy_without_its_wal_file")
        KeyedChainMarker(config.path(config.store.escrow)).note(store_id)
        _bring_projection_up(events, clock.now())
        vault, escrow = Vault(sealer, store_id), Escrow(config.path(config.store.escrow), sealer, store_id)
        build = stored_provider_builder(config, clock)
        of_file = _providers(config, clock) if providers is None else providers
        known = KnownProviders(events, vault, of_file, config.providers, build)
        claims = Claims(events.store, str(config.path(config.store.escrow).resolve()))
        tokens = TokenService(TokenExchange(events, vault, escrow, claims, known, clock))
        server = server or MailServerClient(config.path(config.mail.ca_file) if config.mail.ca_file else None)
        tokens.holds.look()
        replies = tokens.recover()
        if replies:
            log.warning("replies_recovered", replies=replies)
        counters = MailCounters(clock)
        mail = MailService(tokens, server, clock, config.send.profile, counters)
        attention = _attention(events.store, tokens, known, clock)
        _log_providers_left(events.store, known)
        audit, history = Audit(events, vault), History(events)
        store_state = StoreStateQuery.of(config, events.store, clock, unusable=lambda: known.faults)
        passwords, sessions = PasswordHasher(), Sessions(events, clock, config.server.members_for)
        settings = SettingsService(events, clock, known, known.kinds)
        attention_query = AttentionQuery(events.store, clock, attention, audit)
        secrets_end = known.client_secrets_expire_at
        machines = MachinesQuery(events.store, clock, attention)
        notifier = Notifier(events.store, claims, clock, attention, _channels(config, mail, clock), store_state)
        yield Service(
            config=config,
            clock=clock,
            settings=settings,
            tokens=tokens,
            attention=attention,
            mail=mail,
            mail_counts=MailCounts(events.store, counters),
            audit=audit,
            polling_worker=PollingWorker(tokens),
            renewal_worker=RenewalWorker(events, tokens, clock, known.limits),
            notifier=notifier,
            relay_users=RelayUsers(events, vault, tokens, clock, passwords),
            settings_page=SettingsPageQuery(events.store, clock, attention, audit, history),
            attention_query=attention_query,
            machines=machines,
            home=HomeQuery(events.store, clock, attention, attention_query, store_state, secrets_end),
            jobs=Jobs(events.store, clock, machines, UseCases(settings, tokens, mail)),
            history=history,
            verifier=Verifier(audit, clock),
            applier=Applier(events, tokens, clock, known, lambda provider: build(provider, {}), known.kinds),
            administrators=Administrators(events, vault, clock, passwords, sessions),
            sessions=sessions,
            pending_sign_ins=PendingSignIns(events.store, vault, clock),
            clients=ApiClients(events, vault, clock),
            access_token_cache=AccessTokenCache(events, tokens, clock),
            events=events,
            checkpoint_worker=_checkpoint_worker(config, events, store_id, tokens),
            store_state=store_state,
            # A restart must bring no news that all is well again.
            row_watch=RowWatch(events.store, notifier.start),
            node_reports=NodeReports(events.store, sealer, config.path(config.store.escrow)),
            providers=known,
            stored_providers=StoredProviders(events, vault, clock, known, build, tokens.end_for_changed_client),
        )


def _providers(config: Config, clock: Clock) -> dict[str, Provider]:
    return {
        name: build_provider(provider_settings(config, name, table), clock) for name, table in config.providers.items()
    }


def _attention(store: Store, tokens: TokenService, providers: KnownProviders, clock: Clock) -> Attention:
    return Attention(
        store,
        tokens.alarms,
        clock,
        providers.limits,
        providers.client_secrets_expire_at,
        alarm_causes=tokens.alarm_causes,
        alarm_settings=tokens.alarm_settings,
        last_refusal=tokens.last_refusal,
        providers=providers,
        is_stored=providers.is_in_use,
    )


def _log_providers_left(store: Store, providers: Collection[str]) -> None:
    with store.reading() as query:
        left = read_providers_left(query, providers)
    for name in left:
        log.error("provider_left", provider=name)


def _bring_projection_up(events: EventLog, now: datetime) -> None:
    with events.store.reading() as query:
        version = read_meta(query).projection_version
    if version != PROJECTION_VERSION:
        log.info("projection_rebuild_started", version=PROJECTION_VERSION)
        rebuilt = Audit(events).rebuild(
            by="worker", now=now, progress=lambda done: log.info("projection_rebuild_advanced", events=done)
        )
        log.info("projection_rebuilt", events=rebuilt)


def _checkpoint_worker(config: Config, events: EventLog, store_id: str, tokens: TokenService) -> CheckpointWorker:
    evidence = LogEvidence(events, store_id)
    table = config.audit
    file = config.path(table.checkpoint_file) if table and table.checkpoint_file else None
    return CheckpointWorker(evidence, table.interval if table else None, file, tokens.holds.is_on)


def _channels(config: Config, mail: MailService, clock: Clock) -> Iterator[Channel]:
    table = config.notify
    if table.command:
        yield Command(table.command)
    if table.webhook:
        yield Webhook(table.webhook, clock, config.path(table.webhook_ca_file) if table.webhook_ca_file else None)
    if table.mail_profile:
        yield Mail(mail, table.mail_profile, table.mail_to)
