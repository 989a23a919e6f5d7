from collections.abc import Iterator

import httpx
import pytest

from tests.app.server import Running, serving


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One service on the bundled model, shared by the tests that leave it as it was."""
    with serving(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture
def client(service: Running) -> httpx.Client:
    return service.client
