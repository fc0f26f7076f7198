"""Looks at what a running installation needs: each with a verdict and, if something is wrong, the next step.

Nothing is changed. What only the running service knows is asked of the service.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote

from adapters import installation
from adapters.configuration_check import configuration_faults
from adapters.relay.listener import endpoints
from adapters.texts.doctor import doctor_text
from adapters.texts.errors import error_text
from adapters.texts.wording import Surface
from domain.errors import MailtokenError
from domain.store_attention import StoreAttention
from infrastructure.clock import instant_text
from infrastructure.config.certificates import certificate_expiries
from infrastructure.config.load import load_sound_tables
from infrastructure.config.tables import Config
from infrastructure.encryption.key_file import read_key
from infrastructure.tokens.log_memory import LogComparison

Ask = Callable[[str, str], Any]
"""Asks the service with a method and a target; returns the answer's body, or raises any exception."""

_LEAST_MEBIBYTES = 256
_CLOCK_TOLERANCE = timedelta(minutes=5)
_CONNECT_SECONDS = 3.0


class Verdict(StrEnum):
    """How urgent a diagnosis is."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


_OF_CERTIFICATES = {
    StoreAttention.CERTIFICATE_ENDS: Verdict.WARNING,
    StoreAttention.CERTIFICATE_OVER: Verdict.BAD,
}


@dataclass(frozen=True)
class Diagnosis:
    """What was looked at, and what was found."""

    subject: str
    verdict: Verdict
    text: str


def examine(path: Path, ask: Ask) -> Iterator[Diagnosis]:
    """Examine the installation of a configuration file, whatever state it is in."""
    faults = configuration_faults(path)
    yield from (_of_error("configuration", fault) for fault in faults)
    if not faults:
        yield _found("configuration", Verdict.GOOD, "configuration_good", path=str(path))
    try:
        config = load_sound_tables(path).config
    except MailtokenError:
        return
    yield from _key(config)
    yield from _store(path)
    yield from _rooms(config)
    yield from _certificates(config)
    service = _service(ask)
    yield service
    if service.verdict is not Verdict.BAD:
        for name in _provider_names(config, ask):
            yield _provider(name, ask)
    yield from _ports(config)


def _found(subject: str, verdict: Verdict, code: str, **fields: object) -> Diagnosis:
    return Diagnosis(subject, verdict, doctor_text(code, **fields))


def _of_error(subject: str, error: MailtokenError) -> Diagnosis:
    return Diagnosis(subject, Verdict.BAD, error_text(error, Surface.COMMAND))


def _key(config: Config) -> Iterator[Diagnosis]:
    try:
        read_key(config.path(config.store.key_file), os.environ)
    except MailtokenError as error:
        yield _of_error("key", error)
    else:
        yield _found("key", Verdict.GOOD, "key_good")


def _store(path: Path) -> Iterator[Diagnosis]:
    try:
        with installation.offline(path) as store:
            settings, state, last = store.settings(), store.store_state.now(), store.last_event_at()
            code = "store_looks_new" if store.looks_new() else "store_good"
            compared = store.log_comparison()
    except MailtokenError as error:
        yield _of_error("store", error)
        return
    if state.hold:
        yield _found("store", Verdict.BAD, "on_hold")
    else:
        yield _found("store", Verdict.GOOD, code, settings=settings)
    if state.altered:
        yield _found("store", Verdict.BAD, "row_altered")
    yield _log(compared)
    is_behind = last is not None and last > datetime.now(UTC) + _CLOCK_TOLERANCE
    if is_behind and last:
        yield _found("clock", Verdict.BAD, "clock_behind", instant=instant_text(last))
    else:
        yield _found("clock", Verdict.GOOD, "clock_good")
    if state.last_backup_at is None:
        yield _found("backup", Verdict.WARNING, "backup_none")
        return
    verdict, code = (Verdict.WARNING, "backup_old") if state.backup_is_old else (Verdict.GOOD, "backup_good")
    yield _found("backup", verdict, code, instant=instant_text(state.last_backup_at))


def _log(compared: LogComparison) -> Diagnosis:
    if compared.known is None:
        return _found("log", Verdict.GOOD, "log_unknown")
    number = compared.known.number
    if compared.difference:
        return _found("log", Verdict.BAD, f"log_{compared.difference}", number=number)
    return _found("log", Verdict.GOOD, "log_known", number=number)


def _rooms(config: Config) -> Iterator[Diagnosis]:
    directories = {config.path(config.store.escrow).parent}
    if not config.store.url:
        directories.add(config.path(config.store.path).parent)
    for directory in sorted(directories):
        if directory.exists():
            mebibytes = shutil.disk_usage(directory).free // 2**20
            is_short = mebibytes < _LEAST_MEBIBYTES
            verdict, code = (Verdict.BAD, "room_short") if is_short else (Verdict.GOOD, "room_good")
            yield _found("disk", verdict, code, directory=str(directory), mebibytes=mebibytes)


def _certificates(config: Config) -> Iterator[Diagnosis]:
    for one in certificate_expiries(config):
        code = one.attention(datetime.now(UTC))
        verdict = _OF_CERTIFICATES[code] if code else Verdict.GOOD
        yield _found(f"certificate of {one.table}", verdict, code or "certificate_good", until=instant_text(one.at))


def _service(ask: Ask) -> Diagnosis:
    try:
        ask("GET", "/healthz")
        ask("GET", "/readyz")
    except Exception as error:
        return _found("service", Verdict.BAD, "service_away", reason=str(error))
    return _found("service", Verdict.GOOD, "service_good")


def _provider_names(config: Config, ask: Ask) -> Sequence[str]:
    """The names of the providers in use; those of the configuration file if the service does not say."""
    try:
        return [one["name"] for one in ask("GET", "/api/v1/providers")]
    except Exception:
        return sorted(config.providers)


def _provider(name: str, ask: Ask) -> Diagnosis:
    subject = f"provider {name}"
    try:
        is_good = ask("POST", f"/api/v1/providers/{quote(name, safe='')}/check")["ok"]
    except Exception as error:
        return _found(subject, Verdict.WARNING, "provider_unknown", reason=str(error))
    if is_good:
        return _found(subject, Verdict.GOOD, "provider_good")
    return _found(subject, Verdict.BAD, "provider_bad", provider=name)


def _ports(config: Config) -> Iterator[Diagnosis]:
    places = {f"{config.server.listen}": config.server.address} if config.server.listen else {}
    if config.relay.listen is not None:
        places |= {one.name: (one.host, one.port) for one in endpoints(config.relay, {}, os.getpid())}
    for name, (host, port) in places.items():
        try:
            # A socket that listens at every address answers at the loopback one.
            near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
            socket.create_connection((near, port), _CONNECT_SECONDS).close()
        except OSError:
            yield _found(f"port {name}", Verdict.BAD, "port_closed")
        else:
            yield _found(f"port {name}", Verdict.GOOD, "port_good")
