from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from practice_faults.provider import FaultyProvider
from provider_fakes import HeldClock

from adapters.practice.ca import PracticeCA
from adapters.providers import ProviderSettings, build_provider
from domain.ports import Provider


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> PracticeCA:
    return PracticeCA.create(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def clock() -> HeldClock:
    """The clock of the practice provider and of ours: a poll is in time once it is set forward."""
    return HeldClock()


@pytest.fixture(scope="session")
def running(ca: PracticeCA, clock: HeldClock) -> Iterator[FaultyProvider]:
    with FaultyProvider(ca, interval=5, access_token_length=64, now=clock.now) as practice:
        yield practice


@pytest.fixture
def practice(running: FaultyProvider) -> Iterator[FaultyProvider]:
    """A practice provider that behaves again after the test."""
    rules = replace(running.rules)
    yield running
    running.clear_faults()
    running.rules.__dict__.update(rules.__dict__)


@pytest.fixture(params=["microsoft", "oidc"])
def settings(request: pytest.FixtureRequest, practice: FaultyProvider) -> ProviderSettings:
    """The practice provider as each client library sees it."""
    return ProviderSettings(
        "contoso",
        request.param,
        practice.client_id,
        issuer=practice.issuer,
        ca_file=practice.ca_file,
        timeout_seconds=10,
    )


@pytest.fixture
def build(settings: ProviderSettings, clock: HeldClock) -> Callable[..., Provider]:
    """Build the provider, with some settings changed."""
    return lambda **changes: build_provider(replace(settings, **changes), clock)


@pytest.fixture
def provider(build: Callable[..., Provider]) -> Provider:
    return build()
