"""Checks a configuration and the files that it names, without a change and without a request over the network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from adapters.http.server.unix_socket import check_socket_path
from adapters.http.web.organisation_sign_in import OrganisationSignIn
from adapters.mail import tls
from adapters.providers import build_provider
from adapters.providers.settings import provider_settings
from adapters.store_access import check_escrow_path, check_store_path
from adapters.tls_certificate import TLSCertificate
from domain.errors import InvalidValue, MailtokenError, StoreRefused
from infrastructure.clock import SystemClock
from infrastructure.config.load import SoundTables, load_sound_tables
from infrastructure.config.tables import Config, ProviderTable
from infrastructure.encryption.key_file import read_key

_SQLITE = b"SQLite format 3\0"


def configuration_faults(path: Path) -> list[MailtokenError]:
    """The faults of a configuration file, in the order of its tables; none if the service and the relay would start.

    A provider or a table with a fault of its own is not looked at further.
    """
    try:
        sound = load_sound_tables(path)
    except InvalidValue as unreadable:
        return [unreadable]
    found = list[MailtokenError](sound.faults)
    for check in _checks(sound):
        try:
            check()
        except MailtokenError as fault:
            found.append(fault)
    return found


def _checks(sound: SoundTables) -> Iterator[Callable[[], object]]:
    config = sound.config
    if "store" not in sound.left_out:
        yield from _store_checks(config)
    if "server" not in sound.left_out:
        yield partial(check_socket_path, config.path(config.server.socket))
    yield from _certificates(config)
    for name, table in config.providers.items():
        yield partial(_check_provider, config, name, table)
    if config.server.sign_in and "providers" not in sound.left_out:
        yield partial(OrganisationSignIn, config, config.server.sign_in, SystemClock())
    authorities = {
        "[stored_providers] ca_file": config.stored_providers.ca_file,
        "[mail] ca_file": config.mail.ca_file,
        "[notify] webhook_ca_file": config.notify.webhook_ca_file,
    }
    for key, file in authorities.items():
        if file:
            yield partial(_check_authorities, key, config.path(file))


def _store_checks(config: Config) -> Iterator[Callable[[], object]]:
    table = config.store
    yield partial(_check_key, config.path(table.key_file))
    yield partial(check_escrow_path, config.path(table.escrow))
    if not table.url:
        yield partial(_check_database, config.path(table.path))
    if table.password_file:
        yield partial(config.secret, "[store] password_file", table.password_file)


def _certificates(config: Config) -> Iterator[Callable[[], object]]:
    tables = {"[server]": config.server, "[server.callback]": config.server.callback, "[relay]": config.relay}
    for name, table in tables.items():
        if table and table.certificate_file and table.key_file:
            yield partial(TLSCertificate, config.path(table.certificate_file), config.path(table.key_file), name)


def _check_key(file: Path) -> None:
    try:
        read_key(file, os.environ)
    except StoreRefused as fault:
        raise InvalidValue("[store] key_file", fault.code, **fault.fields) from None


def _check_database(path: Path) -> None:
    check_store_path(path)
    if path.exists() and path.open("rb").read(len(_SQLITE)) not in (_SQLITE, b""):
        raise InvalidValue("[store] path", "path_is_no_database", path=str(path))


def _check_provider(config: Config, name: str, table: ProviderTable) -> None:
    build_provider(provider_settings(config, name, table), SystemClock())


def _check_authorities(key: str, file: Path) -> None:
    try:
        tls.client_context(file)
    except InvalidValue as fault:
        raise InvalidValue(key, fault.code, **fault.fields) from None
