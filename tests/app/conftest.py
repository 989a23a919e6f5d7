from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from huggingface_hub import constants

from tests.app import miniatures
from tests.app.server import Running, serving


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One service on the bundled model, shared by the tests that leave it as it was."""
    with serving(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture
def client(service: Running) -> httpx.Client:
    return service.client


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the hub that knows the miniature ResNet, in use here, and no way to the hub."""
    cache = tmp_path_factory.mktemp("hub")
    miniatures.fill_hub_cache(cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        yield cache
