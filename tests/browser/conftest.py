from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.app.server import Running, serving
from tests.browser.visit import Visit, chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MODELS = {"AGIQA_MODELS": "tiny-mpiqe,tiny-clip-agiqa"}
Visiting = Callable[..., Visit]


@pytest.fixture(scope="package")
def browser() -> Iterator["Browser"]:
    """One Chromium. Not for the whole session: Playwright keeps an event loop running meanwhile."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="package")
def service(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One service on both bundled models; it asks for the browser first, which may skip."""
    with serving(tmp_path_factory.mktemp("service"), MODELS) as running:
        yield running


@pytest.fixture
def visiting(browser: "Browser", service: Running) -> Iterator[Visiting]:
    """Makes visits with options of the browser's context; each ends without an error of the page
    and without a request to another host.
    """
    with ExitStack() as contexts:
        visits: list[Visit] = []

        def make(url: str = service.url, **options: Any) -> Visit:
            context = contexts.enter_context(browser.new_context(**options))
            visits.append(Visit(context.new_page(), url))
            return visits[-1]

        yield make
        for made in visits:
            assert made.errors == []
            assert [r for r in made.requests if not r.startswith((made.url, "blob:"))] == []


@pytest.fixture
def visit(visiting: Visiting) -> Visit:
    """The page, with a service that is ready."""
    return visiting().open()
