"""From the provider's reply to Retrieved: sealed into the escrow, understood, decided, stored, and the escrow wiped."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from adapters.bootstrap import open_service
from adapters.installation import initialise
from adapters.practice import browser_user
from adapters.practice.ca import PracticeCA
from adapters.practice.provider import PracticeProvider
from bench.material import ACCOUNT
from bench.rounds import Figure, Measure, Size, compare
from domain.ports import Reply
from infrastructure.config.load import load_config
from infrastructure.service import Service
from infrastructure.tokens.escrow import EscrowEntry

_LINKED = (1, 10, 100)
_ROUNDS = 8
"""Each adds to the history of the group's profiles; real ones are short."""
_BY = "administrator:root"


def acquisitions(directory: Path, size: Size) -> Iterator[Figure]:
    """For SMTP groups of some sizes, beside one request to the provider that does nothing."""
    ca = PracticeCA.create(directory / "ca")
    with PracticeProvider(ca) as provider, _service(directory, provider) as service, _arrivals() as arrivals:
        for linked in _LINKED:
            yield compare(
                f"reply to Retrieved, {linked} linked",
                ours=_acquiring(service, provider, _link(service, linked), arrivals),
                peer=_requesting(provider),
                peer_name="one bare HTTPS request to the provider",
                rounds=min(size.rounds, _ROUNDS),
                unit="ms",
                more_is_better=False,
                target=None,
                limited_by="three fsyncs (escrow, its folder, store); then loading each profile",
            )


@contextmanager
def _service(directory: Path, provider: PracticeProvider) -> Iterator[Service]:
    config = initialise(directory).config
    with config.open("a") as file:
        file.write(
            "[providers.practice]\n"
            'kind = "microsoft"\n'
            f'issuer = "{provider.issuer}"\n'
            f'client_id = "{provider.client_id}"\n'
            'ca_file = "ca/ca.pem"\n'
        )
    with open_service(load_config(config)) as service:
        yield service


def _link(service: Service, linked: int) -> str:
    """Make a group of that many SMTP settings; the name of one."""
    machines = [f"machine-{number}-of-{linked}" for number in range(linked)]
    for machine in machines:
        service.settings.add_machine(machine, "generic", _BY)
    names = [f"{machine}/smtp" for machine in machines]
    service.settings.link(f"group-of-{linked}", names, _BY)
    service.settings.set_profile(names[0], {"provider": "practice", "account": ACCOUNT}, _BY)
    return names[0]


@contextmanager
def _arrivals() -> Iterator[list[float]]:
    """When each reply of the token endpoint was there: just before it goes into the escrow."""
    arrivals: list[float] = []
    keep = EscrowEntry.keep

    def noting(entry: EscrowEntry, reply: Reply) -> None:
        arrivals.append(time.perf_counter())
        keep(entry, reply)

    with patch.object(EscrowEntry, "keep", noting):
        yield arrivals


def _acquiring(service: Service, provider: PracticeProvider, name: str, arrivals: list[float]) -> Measure:
    token_id = service.tokens.status(name).profile.token_id

    def acquire() -> float:
        started = service.tokens.request(name, None, _BY)
        assert started.verification_uri
        assert started.user_code
        browser_user.approve(started.verification_uri, started.user_code, ACCOUNT, provider.ca_file)
        pending = service.tokens.poll(token_id)
        stored = time.perf_counter()
        if pending is not None:
            raise RuntimeError("the practice provider gave no token to the person who approved")
        service.tokens.delete(name, _BY)
        return (stored - arrivals[-1]) * 1000

    return acquire


def _requesting(provider: PracticeProvider) -> Measure:
    tls = ssl.create_default_context(cafile=str(provider.ca_file))

    def request() -> float:
        started = time.perf_counter()
        connection = http.client.HTTPSConnection("localhost", provider.port, context=tls)
        connection.request("GET", f"/{provider.tenant}/.well-known/openid-configuration")
        connection.getresponse().read()
        connection.close()
        return (time.perf_counter() - started) * 1000

    return request
