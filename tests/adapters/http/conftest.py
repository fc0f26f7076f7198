from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes import FakeClock, FakeProvider
from served import ADMIN, IMAP, POP, SMTP, a_service
from served_api import Api, serve_api

from infrastructure.service import Service


@contextmanager
def an_installation(directory: Path, clock: FakeClock, provider: FakeProvider) -> Iterator[Service]:
    with a_service(directory, clock, provider) as service:
        for name in (SMTP, POP, IMAP):
            service.settings.set_profile(name, {"server": "localhost", "port": "9"}, ADMIN)
        yield service


@pytest.fixture
def installation(tmp_path: Path, clock: FakeClock, provider: FakeProvider) -> Iterator[Service]:
    """A service with one machine, `press`, whose SMTP and POP tokens are Retrieved; no mail server answers."""
    with an_installation(tmp_path / "office", clock, provider) as service:
        yield service


@pytest.fixture(scope="module")
def shared_provider() -> FakeProvider:
    """The provider of the module's shared service."""
    return FakeProvider()


@pytest.fixture(scope="module")
def shared_installation(tmp_path_factory: pytest.TempPathFactory, shared_provider: FakeProvider) -> Iterator[Service]:
    """A service like `installation` that the tests of a module share: opening one takes longer than most tests."""
    with an_installation(tmp_path_factory.mktemp("office") / "office", FakeClock(), shared_provider) as service:
        yield service


@pytest.fixture(scope="module")
def shared_http(shared_installation: Service) -> Iterator[Api]:
    """The API of the shared service."""
    with serve_api(shared_installation) as api:
        yield api


@pytest.fixture
def http(installation: Service) -> Iterator[Api]:
    """Its API."""
    with serve_api(installation) as api:
        yield api
