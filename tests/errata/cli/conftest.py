"""One pair of services for all the commands; tests keep apart by namespace."""

from collections.abc import Iterator

import pytest

from tests.e2e.services import Services, services_on
from tests.errata.cli.running import Cli


@pytest.fixture(scope="package")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with services_on(tmp_path_factory.mktemp("cli") / "store") as running:
        yield running


@pytest.fixture
def cli(services: Services, request: pytest.FixtureRequest) -> Cli:
    """The command line in a namespace of the test's own."""
    name = request.node.name.removeprefix("test_").partition("[")[0]
    return Cli.at(services, name[-63:])
