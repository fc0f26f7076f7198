import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from practice_faults.provider import FaultyProvider
from service_process import ServiceProcess

from adapters.practice.ca import PracticeCA
from adapters.practice.mail_server import PracticeMailServer

_numbers = itertools.count(1)

World = Callable[[Path], ServiceProcess]


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> PracticeCA:
    """The authority that both the provider and the mail server have their certificates of."""
    return PracticeCA.create(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def world(ca: PracticeCA) -> Iterator[World]:
    """A provider and a mail server, and services beside them, each in its folder."""
    with FaultyProvider(ca, interval=1) as provider, PracticeMailServer(ca, provider) as mail:
        yield lambda directory: ServiceProcess(directory, provider, kind="oidc", mail=mail)


@pytest.fixture(scope="session")
def service(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service that runs; the tests share it, each with a machine of its own."""
    with world(tmp_path_factory.mktemp("house")) as service:
        yield service


@pytest.fixture
def own_service(world: World, tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service for one test; it is not running yet."""
    service = world(tmp_path / "house")
    yield service
    service.end()


@pytest.fixture
def machine() -> str:
    """A name that no other test has."""
    return f"printer-{next(_numbers)}"


@pytest.fixture
def smtp(service: ServiceProcess, machine: str) -> str:
    """An SMTP setting that is filled in and Not Retrieved, linked with three others of its machine."""
    return service.add_printer(machine)


@pytest.fixture
def pop(smtp: str) -> str:
    """A POP setting of the same machine, filled in and Not Retrieved."""
    return smtp.replace("smtp-service", "pop-internet-fax")
