from collections.abc import Iterator
from pathlib import Path

import pytest
from asking import Api, asked
from fakes import FakeClock, FakeProvider
from served import ADMIN, IMAP, POP, SMTP, a_service

from adapters.bootstrap import Service


@pytest.fixture
def office(tmp_path: Path, clock: FakeClock, provider: FakeProvider) -> Iterator[Service]:
    """A service with one machine, `press`, whose SMTP and POP tokens are Retrieved; no mail server answers."""
    with a_service(tmp_path / "office", clock, provider) as service:
        for name in (SMTP, POP, IMAP):
            service.settings.set_profile(name, {"server": "localhost", "port": "9"}, ADMIN)
        yield service


@pytest.fixture
def http(office: Service) -> Iterator[Api]:
    """Its API."""
    with asked(office) as api:
        yield api
