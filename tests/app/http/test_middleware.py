"""What surrounds every request, with no worker behind it."""

import asyncio
import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.formparsers import MultiPartParser
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http import problems, routes
from app.http.admin import administration
from app.http.keys import Keys
from app.http.middleware import RequestContext, is_public
from app.main import create_app
from app.metrics import ENDPOINTS, Metrics
from app.settings import Settings

PROBES = {"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"}
PUBLIC = {"/", "/docs", "/openapi.json", "/static", "/metrics"} | PROBES


async def ask(
    app: ASGIApp,
    path: str = "/score",
    method: str = "POST",
    headers: dict[str, str] | None = None,
    client: tuple[str, int] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    sent: list[Message] = []

    messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if not messages:
            await asyncio.Event().wait()  # the client waits too
        return messages.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": unquote(path),
        "query_string": b"",
        "client": client,
        "headers": [(k.encode(), v.encode()) for k, v in (headers or {}).items()],
    }
    await app(scope, receive, send)
    start, *parts = sent
    answered = {k.decode(): v.decode() for k, v in start["headers"]}
    return start["status"], answered, b"".join(part["body"] for part in parts)


def answer(app: ASGIApp, *arguments: Any, **named: Any) -> tuple[int, Any]:
    """Status and code of a problem."""
    status, _, body = asyncio.run(ask(app, *arguments, **named))
    return status, json.loads(body).get("code")


@pytest.fixture(scope="module")
def guarded() -> FastAPI:
    """The whole application, with keys, before its models are loaded."""
    keys = Settings(api_keys=("secret",), admin_keys=("operator",))
    return create_app(keys.model_copy(update={"max_crop_mib": 1, "max_image_mib": 1}))


def paths(routes: Iterable[BaseRoute]) -> Iterator[str]:
    for route in routes:
        # Newer versions of FastAPI keep a router that is included as one route.
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from paths(included.routes)
        else:
            yield route.path  # type: ignore[attr-defined]


def test_every_route_is_either_public_or_counted_and_guarded(guarded: FastAPI) -> None:
    found = set(paths(guarded.routes))
    assert found == PUBLIC | set(ENDPOINTS) | {RELOAD}
    files = {"/static": "/static/main.js"}
    assert {path for path in found if is_public(files.get(path, path))} == PUBLIC


RELOAD = "/models/{name}/reload"
SPELLINGS = (
    *("{}", "{}%0A", "{}%0D%0A", "{}%00", "{}/", "/{}", "{}%2e", "/.{}", "/%2e{}"),
    *("{}%2F", "/%2F{}", "{0}/%2e%2e{0}", "/static/..{}", "/livez/..{}"),
)
REFUSALS = {
    (400, "bad_path"),
    (401, "unauthorized"),
    (404, "not_found"),
    (405, "method_not_allowed"),
}


@pytest.mark.parametrize("prefix", ["", "/iqa", "/livez"])
def test_no_spelling_of_a_guarded_route_is_served_without_a_key(
    guarded: FastAPI, prefix: str
) -> None:
    app = Starlette(routes=[Mount(prefix, guarded)]) if prefix else guarded
    for template in set(paths(guarded.routes)) - PUBLIC:
        path = template.replace("{name}", "tiny-mpiqe")
        encoded = path.replace("/", "%2F")
        for spelling in (*SPELLINGS, path.upper(), path.title(), encoded, f"/{encoded}"):
            for method in ("GET", "HEAD", "POST", "PUT"):
                status, _, body = asyncio.run(ask(app, prefix + spelling.format(path), method))
                code = json.loads(body)["code"]
                assert (status, code) in REFUSALS, (method, spelling.format(path))
        assert answer(app, prefix + path) == (401, "unauthorized")


@pytest.mark.parametrize("key", [{}, {"authorization": "Bearer wrong"}], ids=["none", "wrong"])
def test_the_routes_themselves_need_a_key_even_where_nothing_stands_before_them(
    guarded: FastAPI, key: dict[str, str]
) -> None:
    bare = FastAPI()
    problems.install(bare)
    service = guarded.state.service
    bare.include_router(administration(service))
    for router in (routes.scoring, routes.batches, routes.operations):
        bare.include_router(router(service, Keys(service.settings.api_keys)))
    app = RequestContext(bare, Metrics())
    headers = {"content-type": 'multipart/form-data; boundary="b"', **key}
    checked = set(paths(bare.routes)) - PUBLIC - {"/docs/oauth2-redirect", "/redoc"}
    assert checked == {*ENDPOINTS, RELOAD}
    for path in checked:
        method = "GET" if path == "/models" else "POST"
        named = path.replace("{name}", "tiny-mpiqe")
        assert answer(app, named, method, headers=headers) == (401, "unauthorized")
    right = {**headers, "authorization": "Bearer secret"}
    assert answer(app, "/models", "GET", headers=right) == (503, "loading")
    # A key that opens the service is none of its operators'.
    own = RELOAD.replace("{name}", "tiny-mpiqe")
    assert answer(app, own, "POST", headers=right) == (401, "unauthorized")


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/openapi.json", "/static/main.js", "/livez", "/v2/health/live"]
)
@pytest.mark.parametrize("prefix", ["", "/iqa"])
def test_pages_and_probes_need_no_key_wherever_they_are_mounted(
    guarded: FastAPI, path: str, prefix: str
) -> None:
    app = Starlette(routes=[Mount(prefix, guarded)]) if prefix else guarded
    status, _, _ = asyncio.run(ask(app, prefix + path, "GET"))
    assert status == 200


def test_a_key_opens_what_it_guards_and_an_address_without_a_route_is_guarded_too(
    guarded: FastAPI,
) -> None:
    key = {"authorization": "Bearer secret"}
    assert answer(guarded, headers=key) == (503, "loading")
    assert answer(guarded, "/nothing", "GET") == (401, "unauthorized")
    assert answer(guarded, "/nothing", "GET", headers=key) == (404, "not_found")


@pytest.mark.parametrize("path", ["/score%0A", "/livez%0A", "/%7F", "/sc%00ore"])
def test_an_address_with_control_characters_is_refused_and_forges_no_line_of_the_log(
    path: str, guarded: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "agiqa.access")
    assert answer(guarded, path, headers={"authorization": "Bearer secret"}) == (400, "bad_path")
    (record,) = [r for r in caplog.records if r.name == "agiqa.access"]
    assert record.levelname == "INFO"
    assert record.getMessage() == f"POST {path} 400"


@pytest.mark.parametrize("path", ["/score", "/models", "/nothing"])
def test_the_limit_of_a_body_holds_for_all_that_is_not_public(guarded: FastAPI, path: str) -> None:
    headers = {"authorization": "Bearer secret", "content-length": str(2**21)}
    assert answer(guarded, path, "PUT", headers=headers) == (413, "too_large")


def test_a_websocket_is_turned_away(guarded: FastAPI) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/score", "headers": []}
    asyncio.run(guarded(scope, receive, send))
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_an_application_leaves_the_form_parser_of_others_as_it_is(guarded: FastAPI) -> None:
    before = MultiPartParser.spool_max_size
    create_app(Settings(max_crop_mib=1, max_image_mib=3))
    assert MultiPartParser.spool_max_size == before == 2**20


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("a secret path /home/me")


@pytest.mark.filterwarnings("ignore")
def test_an_unforeseen_error_is_a_problem_with_an_id_and_no_secret() -> None:
    metrics = Metrics()
    status, headers, content = asyncio.run(ask(RequestContext(broken, metrics)))
    body = json.loads(content)
    assert status == 500
    assert body["code"] == "internal"
    assert headers["x-request-id"] == body["request_id"]
    assert "secret" not in json.dumps(body)
    text = metrics.text().decode()
    assert 'agiqa_requests_total{code="500",endpoint="/score"} 1.0' in text
    assert "agiqa_requests_in_flight 0.0" in text


def test_every_series_is_there_before_the_first_request() -> None:
    text = Metrics().text().decode()
    for reason in ("overloaded", "deadline", "client_gone", "oom", "worker_down"):
        assert f'agiqa_request_failures_total{{reason="{reason}"}} 0.0' in text
    for stage in ("read", "decode", "queue", "inference", "reduce"):
        assert f'agiqa_stage_duration_seconds_count{{stage="{stage}"}} 0.0' in text
