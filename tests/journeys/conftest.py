"""A practice provider and mail server in the test's process, and the real service beside it in one of its own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from engines import MOSTLY_SQLITE
from practice_faults.mail_server import FaultyMailServer
from practice_faults.provider import FaultyProvider
from service_process import ServiceProcess

from adapters.practice.ca import PracticeCA

MakeService = Callable[..., ServiceProcess]


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> PracticeCA:
    return PracticeCA.create(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def practice(ca: PracticeCA) -> Iterator[FaultyProvider]:
    """Asked once a second; a spent refresh token revokes all that came of the same sign-in."""
    with FaultyProvider(ca, interval=1) as practice:
        yield practice


@pytest.fixture
def mail(ca: PracticeCA, practice: FaultyProvider) -> Iterator[FaultyMailServer]:
    with FaultyMailServer(ca, practice) as mail:
        yield mail


@pytest.fixture(params=MOSTLY_SQLITE)
def engine(request: pytest.FixtureRequest) -> str:
    """The engine of the store."""
    name: str = request.param
    return name


@pytest.fixture
def store_url(engine: str, request: pytest.FixtureRequest) -> str | None:
    """Where the store is, on each engine; None is a SQLite file beside the configuration."""
    return request.getfixturevalue("postgres_url") if engine == "postgresql" else None


@pytest.fixture
def make_service(tmp_path: Path, practice: FaultyProvider) -> Iterator[MakeService]:
    """Make a service that runs until the end of the test."""
    with ExitStack() as running:

        def make(**options: Any) -> ServiceProcess:
            return running.enter_context(ServiceProcess(tmp_path / "service", practice, **options))

        yield make
