"""A practice provider and mail server in the test's process, and the real service beside it in one of its own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from running import RunningService

from adapters.practice.ca import PracticeCA
from adapters.practice.mail_server import PracticeMailServer
from adapters.practice.provider import PracticeProvider

MakeService = Callable[..., RunningService]


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> PracticeCA:
    return PracticeCA.create(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def practice(ca: PracticeCA) -> Iterator[PracticeProvider]:
    """Asked once a second; a spent refresh token revokes all that came of the same sign-in."""
    with PracticeProvider(ca, interval=1) as practice:
        yield practice


@pytest.fixture
def mail(ca: PracticeCA, practice: PracticeProvider) -> Iterator[PracticeMailServer]:
    with PracticeMailServer(ca, practice) as mail:
        yield mail


@pytest.fixture
def store_url(engine: str, request: pytest.FixtureRequest) -> str | None:
    """Where the store is, on each engine; None is a SQLite file beside the configuration."""
    return request.getfixturevalue("postgres_url") if engine == "postgresql" else None


@pytest.fixture
def make_service(tmp_path: Path, practice: PracticeProvider) -> Iterator[MakeService]:
    """Make a service that runs until the end of the test."""
    with ExitStack() as running:

        def make(**options: Any) -> RunningService:
            return running.enter_context(RunningService(tmp_path / "service", practice, **options))

        yield make
