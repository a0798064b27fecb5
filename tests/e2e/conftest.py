"""One pair of services for each module that needs no more."""

from collections.abc import Iterator

import pytest

from tests.e2e.services import Learner, Rag, Services, services_on


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with services_on(tmp_path_factory.mktemp("services") / "store") as running:
        yield running


@pytest.fixture(scope="module")
def learner(services: Services) -> Learner:
    return services.learner


@pytest.fixture(scope="module")
def rag(services: Services) -> Rag:
    return services.rag
