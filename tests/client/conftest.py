from collections.abc import Iterator

import pytest

from tests.app.server import AUTO, Running, serving
from tests.client.calling import Kind


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Which of the two clients."""
    chosen: Kind = request.param
    return chosen


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One service with both bundled models."""
    models = {"AGIQA_MODELS": "tiny-mpiqe,tiny-clip-agiqa"}
    with serving(tmp_path_factory.mktemp("service"), AUTO | models) as running:
        yield running
