"""What a browser may do here, and for whose page."""

from typing import Any

import pytest

from app.batching.errors import BadHost, CrossSite
from app.http.origin import Hosts, Origins
from app.main import create_app
from app.settings import Settings
from tests.app.http.test_middleware import answer

LOOPBACK = Hosts(("localhost", "127.0.0.1", "[::1]"))
OWN = {"host": "iqa.example.org"}


@pytest.mark.parametrize(
    "name", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]", "[::1]:8000", "localhost."]
)
def test_the_own_names_are_answered_with_any_port(name: str) -> None:
    LOOPBACK.require({"host": name})


@pytest.mark.parametrize(
    "name", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8000", "[::2]"]
)
def test_a_name_that_only_points_here_is_refused(name: str) -> None:
    with pytest.raises(BadHost):
        LOOPBACK.require({"host": name})


def test_a_request_without_a_name_comes_from_no_browser() -> None:
    LOOPBACK.require({})


def test_names_may_stand_for_many() -> None:
    below = Hosts(("*.example.org",))
    below.require({"host": "a.b.example.org"})
    for name in ("example.org", "example.org.evil.example", "badexample.org"):
        with pytest.raises(BadHost):
            below.require({"host": name})
    Hosts(("*",)).require({"host": "anything"})


@pytest.mark.parametrize(
    "headers",
    [
        {},  # curl
        {"sec-fetch-site": "same-origin", "origin": "https://iqa.example.org"},
        {"sec-fetch-site": "none"},
        {"origin": "https://iqa.example.org"},  # a browser that sends no more, or plain HTTP
        {"sec-fetch-site": "cross-site", "origin": "https://ours.example"},
    ],
)
def test_own_pages_allowed_ones_and_programs_may_send(headers: dict[str, str]) -> None:
    Origins(("https://ours.example/",)).require(OWN | headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site", "origin": "https://evil.example"},
        {"sec-fetch-site": "same-site", "origin": "https://other.example.org"},
        {"origin": "https://evil.example"},
        {"origin": "null"},  # a sandboxed frame
        {"origin": "https://iqa.example.org.evil.example"},
    ],
)
def test_pages_of_others_may_not(headers: dict[str, str]) -> None:
    with pytest.raises(CrossSite):
        Origins(("https://ours.example/",)).require(OWN | headers)


def local(**settings: Any) -> Any:
    return create_app(Settings.model_validate({"max_crop_mib": 1, **settings}))


def test_a_service_on_the_loopback_answers_to_its_own_names_only() -> None:
    rebound = {"host": "evil.example:8000"}
    assert answer(local(), "/models", "GET", headers=rebound) == (421, "bad_host")
    assert answer(local(), "/openapi.json", "GET", headers=rebound) == (421, "bad_host")
    assert answer(local(host="::1"), "/models", "GET", headers=rebound) == (421, "bad_host")
    assert answer(local(host="0.0.0.0"), "/models", "GET", headers=rebound) == (503, "loading")
    named = local(allowed_hosts=("evil.example",))
    assert answer(named, "/models", "GET", headers=rebound) == (503, "loading")


def test_probes_are_answered_under_any_name() -> None:
    assert answer(local(), "/livez", "GET", headers={"host": "10.0.0.7:8000"}) == (200, None)
    assert answer(local(), "/readyz", "GET", headers={"host": "10.0.0.7:8000"}) == (503, "loading")


def test_a_form_of_another_site_is_refused_before_its_body_is_read() -> None:
    foreign = {"host": "localhost:8000", "origin": "https://evil.example"}
    assert answer(local(), headers=foreign) == (403, "cross_site")
    assert answer(local(), "/models", "GET", headers=foreign) == (503, "loading")  # shows nothing
    allowed = local(allowed_origins=("https://evil.example",))
    assert answer(allowed, headers=foreign) == (503, "loading")
