"""Renewals in a second beside bare requests to the same token endpoint, and what making a reply safe takes of each.

The practice provider is a process of its own, as a real one is: what it computes takes nothing from either side.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

from adapters.bootstrap import open_service
from adapters.http_client import HttpClient
from adapters.installation import initialise
from adapters.practice import browser_user
from adapters.practice.ca import PracticeCA
from adapters.practice.provider import DEVICE_CODE_GRANT, PracticeProvider
from bench.material import ACCOUNT, NOW, credential
from bench.rounds import Figure, Measure, Size, compare
from domain.ports import Reply
from infrastructure.clock import SystemClock
from infrastructure.config.load import load_config
from infrastructure.encryption.envelope import Sealer
from infrastructure.service import Service
from infrastructure.store.claim_rows import ClaimKey
from infrastructure.tokens.escrow import _HEADER_BYTES, Escrow

_AT_ONCE = 8
"""As the renewal worker does for one provider."""
_LIBRARIES = {"microsoft": "msal", "oidc": "Authlib"}
_BY = "administrator:root"


@dataclass(frozen=True)
class _Provider:
    """The practice provider, seen from another process."""

    issuer: str
    client_id: str
    ca_file: Path

    @property
    def token_endpoint(self) -> str:
        return f"{self.issuer}/oauth2/token"


def renewals(directory: Path, size: Size) -> Iterator[Figure]:
    """Of as many tokens as there are requests, as many at once: through each client library, stored and all."""
    with _provider(directory) as provider, _service(directory, provider) as service:
        for kind, library in _LIBRARIES.items():
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                yield compare(
                    f"renewals through {library}",
                    ours=_renewing(service, pool, _get_tokens(service, provider, kind, size.renewals)),
                    peer=_requesting(provider, pool, size.renewals),
                    peer_name="bare refresh requests through the same HTTP client",
                    rounds=size.rounds // 2,
                    unit="renewals/s",
                    more_is_better=True,
                    target=None,
                    limited_by=f"Python on one core: request and TLS, {library}, the reply read, the token stored",
                )


def reply_to_escrow(directory: Path, size: Size) -> Figure:
    """From a reply's arrival until it is in the escrow, sealed and on stable storage."""
    escrow = Escrow(directory / "escrow", Sealer(os.urandom(32)), "bench")
    reply, sealed = _reply(), _sealed(escrow, _reply())
    return compare(
        "reply to escrow",
        ours=_median_of(size.saves, lambda: _keep(escrow, reply)),
        peer=_median_of(size.saves, lambda: _write(directory / "escrow" / "bare", sealed)),
        peer_name=f"write and fsync of the same {len(sealed):,} bytes, to a new file of the same folder",
        rounds=size.rounds,
        unit="ms",
        more_is_better=False,
        target=None,
        limited_by="two fsyncs, of the file and of its folder",
    )


# Renewals


@contextmanager
def _provider(directory: Path) -> Iterator[_Provider]:
    spawning = multiprocessing.get_context("spawn")
    ours, its = spawning.Pipe()
    process = spawning.Process(target=_provide, args=(directory, its), name="practice provider")
    process.start()
    its.close()
    try:
        yield ours.recv()
    finally:
        ours.close()
        process.join()


def _provide(directory: Path, bench: Connection) -> None:
    """Run a practice provider for as long as the other end of the pipe is open."""
    with PracticeProvider(PracticeCA.create(directory / "ca")) as provider:
        bench.send(_Provider(provider.issuer, provider.client_id, provider.ca_file))
        bench.poll(None)


@contextmanager
def _service(directory: Path, provider: _Provider) -> Iterator[Service]:
    config = initialise(directory).config
    with config.open("a") as file:
        for kind in _LIBRARIES:
            file.write(
                f"[providers.{kind}]\n"
                f'kind = "{kind}"\n'
                f'issuer = "{provider.issuer}"\n'
                f'client_id = "{provider.client_id}"\n'
                f'ca_file = "{provider.ca_file}"\n'
            )
    with open_service(load_config(config)) as service:
        yield service


def _get_tokens(service: Service, provider: _Provider, kind: str, count: int) -> list[str]:
    """Make so many settings, each with a token of its own; their names."""
    names = []
    for number in range(count):
        [*_, name] = service.settings.add_machine(f"{kind}-{number}", "generic", _BY)
        service.settings.set_profile(name, {"provider": kind, "account": ACCOUNT}, _BY)
        started = service.tokens.request(name, None, _BY)
        assert started.verification_uri
        assert started.user_code
        browser_user.approve(started.verification_uri, started.user_code, ACCOUNT, provider.ca_file)
        service.tokens.poll(service.tokens.status(name).profile.token_id)
        names.append(name)
    return names


def _renewing(service: Service, pool: ThreadPoolExecutor, names: list[str]) -> Measure:
    def renew_all() -> float:
        held = [(one.profile.token_id, one.token.credential) for one in map(service.tokens.status, names)]
        due = [(token_id, credential.number) for token_id, credential in held if credential]
        assert len(due) == len(names)
        return _in_a_second(pool, lambda one: service.tokens.renew_generation(*one), due)

    return renew_all


def _requesting(provider: _Provider, pool: ThreadPoolExecutor, count: int) -> Measure:
    http = HttpClient(SystemClock(), ca_file=provider.ca_file)
    refresh_tokens = [_sign_in(http, provider) for _ in range(count)]

    def renew(number: int) -> None:
        form = {"grant_type": "refresh_token", "refresh_token": refresh_tokens[number]}
        refresh_tokens[number] = _post(http, provider, provider.token_endpoint, form)["refresh_token"]

    return lambda: _in_a_second(pool, renew, range(count))


def _in_a_second(pool: ThreadPoolExecutor, do: Callable[[Any], None], every: Any) -> float:
    started = time.perf_counter()
    done = sum(1 for _ in pool.map(do, every))
    return done / (time.perf_counter() - started)


def _sign_in(http: HttpClient, provider: _Provider) -> str:
    """A grant of the same account and scope as ours; its refresh token."""
    scope = "openid profile offline_access https://outlook.office.com/SMTP.Send"
    device = _post(http, provider, f"{provider.issuer}/oauth2/devicecode", {"scope": scope})
    browser_user.approve(device["verification_uri"], device["user_code"], ACCOUNT, provider.ca_file)
    form = {"grant_type": DEVICE_CODE_GRANT, "device_code": device["device_code"]}
    refresh_token: str = _post(http, provider, provider.token_endpoint, form)["refresh_token"]
    return refresh_token


def _post(http: HttpClient, provider: _Provider, url: str, form: Mapping[str, str]) -> dict[str, Any]:
    data = {"client_id": provider.client_id, **form}
    body: dict[str, Any] = json.loads(http.post(lambda session: session.post(url, data=data)).body)
    return body


# The escrow


def _reply() -> Reply:
    """Of the size Entra's have, with an ID token of 1,000 characters."""
    granted = credential(NOW)
    assert granted.refresh_token
    body = {
        "token_type": "Bearer",
        "scope": granted.scope,
        "expires_in": 3600,
        "access_token": granted.access_token.reveal(),
        "refresh_token": granted.refresh_token.reveal(),
        "id_token": "e" * 1000,
    }
    return Reply(200, (("Content-Type", "application/json"),), json.dumps(body).encode(), NOW)


def _sealed(escrow: Escrow, reply: Reply) -> bytes:
    """What the escrow writes of a reply."""
    entry = escrow.reserve(_work())
    entry.keep(reply)
    written = entry.path.read_bytes()[_HEADER_BYTES:].rstrip(b"\0")
    escrow.clear(entry)
    return written


def _work() -> ClaimKey:
    return ClaimKey("renewal", uuid4(), uuid4().hex, 1)


def _keep(escrow: Escrow, reply: Reply) -> float:
    entry = escrow.reserve(_work())
    started = time.perf_counter()
    entry.keep(reply)
    kept = time.perf_counter()
    escrow.clear(entry)
    return kept - started


def _write(path: Path, written: bytes) -> float:
    started = time.perf_counter()
    with path.open("wb") as file:
        file.write(written)
        file.flush()
        os.fsync(file.fileno())
    done = time.perf_counter()
    path.unlink()
    return done - started


def _median_of(times: int, seconds: Callable[[], float]) -> Measure:
    return lambda: median(seconds() for _ in range(times)) * 1000
