import pytest
from engines import MOSTLY_SQLITE


@pytest.fixture(params=MOSTLY_SQLITE)
def engine(request: pytest.FixtureRequest) -> str:
    """The engine of the store."""
    name: str = request.param
    return name
