"""Services that say what the test wants, and each client in turn."""

from collections.abc import Iterator

import pytest

from tests.errata.client.scripted_services import (
    MakesClient,
    ScriptedServices,
    blocking,
    in_turn,
    scripted_services,
)


@pytest.fixture(params=[blocking, in_turn], ids=["blocking", "asyncio"])
def client_of(request: pytest.FixtureRequest) -> MakesClient:
    made: MakesClient = request.param
    return made


@pytest.fixture
def services() -> Iterator[ScriptedServices]:
    with scripted_services() as running:
        yield running
