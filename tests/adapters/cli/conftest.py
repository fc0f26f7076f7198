import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mailtoken_house import House

from adapters.practice.ca import PracticeCA
from adapters.practice.mail_server import PracticeMailServer
from adapters.practice.provider import PracticeProvider

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], House]]:
    """A provider and a mail server, and houses beside them."""
    ca = PracticeCA.create(tmp_path_factory.mktemp("ca"))
    houses: list[House] = []
    with PracticeProvider(ca, interval=1) as provider, PracticeMailServer(ca, provider) as mail:

        def build(directory: Path) -> House:
            houses.append(House(directory, ca, provider, mail))
            return houses[-1]

        yield build
        for house in houses:
            house.stop()


@pytest.fixture(scope="session")
def house(world: Callable[[Path], House], tmp_path_factory: pytest.TempPathFactory) -> House:
    """A house whose service runs; the tests share it, each with a machine of its own."""
    house = world(tmp_path_factory.mktemp("house"))
    house.start()
    return house


@pytest.fixture
def own_house(world: Callable[[Path], House], tmp_path: Path) -> Iterator[House]:
    """A house for one test; its service is not running yet."""
    house = world(tmp_path / "house")
    yield house
    house.stop()


@pytest.fixture
def machine() -> str:
    """A name that no other test has."""
    return f"printer-{next(_numbers)}"


@pytest.fixture
def smtp(house: House, machine: str) -> str:
    """An SMTP setting that is filled in and Not Retrieved, linked with three others of its machine."""
    return house.add_printer(machine)


@pytest.fixture
def pop(smtp: str) -> str:
    """A POP setting of the same machine, filled in and Not Retrieved."""
    return smtp.replace("smtp-service", "pop-internet-fax")
