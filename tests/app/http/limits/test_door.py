"""The door before the application: it refuses as the application would, and nothing else."""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import Scope

from app.batching.admission import State
from app.batching.fairness import Sender
from app.http.limits.door import Door
from app.http.request_state import state_of
from app.main import server_config
from tests.app.fake_device import run
from tests.app.http.limits.test_bodies import MIB, SETTINGS, Upload, application, busy

GUARDED = {"api_keys": ("first", "second")}
KEY = {"authorization": "Bearer second"}
# What differs between two answers to the same request.
RANDOM = {"retry-after", "x-request-id", "content-length"}


def scope_of(path: str = "/score", /, **headers: str) -> Scope:
    fields = {"content-length": str(MIB // 2), **headers}
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "client": ("192.0.2.1", 4711),
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in fields.items()],
    }


def door_of(app: FastAPI) -> Door:
    door = app.state.door
    assert isinstance(door, Door)
    return door


def counts(app: FastAPI) -> dict[str, float]:
    """What was counted of requests."""
    names = (
        *("agiqa_requests_total", "agiqa_requests_by_priority_total"),
        *("agiqa_request_failures_total", "agiqa_request_duration_seconds_count"),
    )
    text = app.state.service.metrics.text().decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith(names))
    return {name: float(value) for name, _, value in lines if float(value)}


@contextlib.contextmanager
def access_lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[dict[str, Any]]]:
    caplog.set_level("INFO", "agiqa.access")
    caplog.clear()
    lines: list[dict[str, Any]] = []
    yield lines
    fields = ("method", "path", "status", "client", "bytes", "key", "code", "message")
    found = [vars(record) for record in caplog.records if record.name == "agiqa.access"]
    lines += [{name: one[name] for name in fields if name in one} for one in found]


class Call(Upload):
    """The same request, to the application."""

    async def outcome_of(self, scope: Scope) -> tuple[int, dict[str, str], dict[str, Any]]:
        await self.app(scope, self.receive, self.send)
        start, *bodies = self.sent
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        return start["status"], headers, json.loads(b"".join(body["body"] for body in bodies))


@pytest.mark.parametrize("path", ["/score", "/score-agi", "/score/batch"])
def test_it_refuses_in_the_words_of_the_application_and_both_are_written_down_alike(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        answers, counted, logged = [], [], []
        for is_door in (True, False):
            app = application(**GUARDED)
            busy(app, 15.0)
            scope = scope_of(path, x_priority="interactive", **KEY)
            with access_lines(caplog) as lines:
                if is_door:
                    response = door_of(app).refusal(scope)
                    assert isinstance(response, Response)
                    headers = {k.decode(): v.decode() for k, v in response.raw_headers}
                    content = json.loads(bytes(response.body))
                    answers.append((response.status_code, headers, content))
                else:
                    answers.append(await Call(app, MIB // 2, path).outcome_of(scope))
            counted.append(counts(app))
            logged.append(lines)
        for _, headers, content in answers:
            assert content.pop("request_id") == headers["x-request-id"]
            assert int(headers["retry-after"]) >= 5
            headers.pop("connection", None)  # the protocol's word
            for name in RANDOM:
                del headers[name]
        assert answers[0] == answers[1]
        assert answers[0][0] == 429
        assert counted[0] == counted[1]
        assert len(counted[0]) == 4
        assert logged[0] == logged[1]
        assert logged[0][0]["key"] == "key-2"

    run(scenario)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"x_request_timeout": "soon"}, 422),
        ({"x_priority": "urgent"}, 422),
        ({"content-length": str(2 * MIB)}, 413),
        ({"authorization": "Bearer third"}, 401),
        ({"host": "elsewhere.example"}, 421),
        ({"sec_fetch_site": "cross-site"}, 403),
    ],
)
def test_refusals_for_other_reasons_are_the_application_s(
    changed: dict[str, str], status: int
) -> None:
    async def scenario() -> None:
        app = application(**GUARDED)
        busy(app, 15.0)
        scope = scope_of(**{**KEY, **changed})
        assert door_of(app).refusal(scope) is None
        assert not counts(app)
        assert (await Call(app, None).outcome_of(scope))[0] == status
        assert sum(counts(app).values()) >= 2

    run(scenario)


@pytest.mark.parametrize("state", [State.DRAINING, State.LOADING, State.WORKER_DOWN])
def test_a_service_that_takes_no_requests_says_so_itself(state: State) -> None:
    async def scenario() -> None:
        app = application()
        busy(app, 15.0)
        app.state.service.admission.state = state
        scope = scope_of()
        assert door_of(app).refusal(scope) is None
        assert (await Call(app, None).outcome_of(scope))[0] == 503

    run(scenario)


def test_whoever_is_let_in_has_one_place_until_its_end_whatever_that_is() -> None:
    async def scenario() -> None:
        app = application()
        admission = app.state.service.admission
        entered = []
        at_the_door = admission.at_the_door

        def note(*arguments: Any, **named: Any) -> Any:
            entered.append(at_the_door(*arguments, **named))
            return entered[-1]

        admission.at_the_door = note
        line = admission._lines[Sender().priority]
        for end in (State.READY, State.DRAINING):
            scope = scope_of()
            assert door_of(app).refusal(scope) is None
            assert len(line) == 1
            admission.state = end  # meanwhile
            upload = Call(app, None)
            upload.part(MIB // 2, more=False)
            assert (await upload.outcome_of(scope))[0] in {400, 422, 503}
            assert not len(line)
        assert len(entered) == 2

    run(scenario)


def test_an_unforeseen_error_is_logged_and_the_application_answers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        app = application()
        admission = app.state.service.admission
        at_the_door = admission.at_the_door

        def fail(*_: Any, **__: Any) -> None:
            admission.at_the_door = at_the_door
            raise RuntimeError("a fault of ours")

        admission.at_the_door = fail
        busy(app, 15.0)
        scope = scope_of()
        assert door_of(app).refusal(scope) is None
        assert (await Call(app, None).outcome_of(scope))[0] == 429

    run(scenario)
    (record,) = [r for r in caplog.records if r.name == "app.http.limits.door"]
    assert record.exc_info


def test_the_client_is_whom_a_trusted_proxy_names_for_the_log_and_for_its_share(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        app = application(forwarded_allow_ips=("192.0.2.1",))
        scope = scope_of(x_forwarded_for="203.0.113.5, 198.51.100.9")
        assert door_of(app).refusal(scope) is None
        assert state_of(scope).owner == "198.51.100.9"
        assert scope["client"][0] == "192.0.2.1"  # the server will see to it
        busy(app, 15.0)
        with access_lines(caplog) as lines:
            assert door_of(app).refusal(scope_of(x_forwarded_for="198.51.100.9"))
        assert [line["client"] for line in lines] == ["198.51.100.9"]

    run(scenario)


def test_it_is_refusing_for_a_second_after_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        app = application()
        door = door_of(app)
        assert door.refusal(scope_of()) is None
        assert not door.is_refusing
        busy(app, 15.0)
        assert door.refusal(scope_of()) is not None
        assert door.is_refusing
        now = time.monotonic()
        monkeypatch.setattr("app.http.limits.door.time.monotonic", lambda: now + 1.1)
        assert not door.is_refusing

    run(scenario)


def test_the_server_has_it_where_no_spans_are_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    protocol: Any = server_config(app := application(), SETTINGS).http
    assert protocol.keywords["door"] is door_of(app)
    assert protocol.keywords["gathering"] is not None
    pytest.importorskip("opentelemetry.sdk")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    app = application()
    assert app.state.door is None
    protocol = server_config(app, SETTINGS).http
    assert protocol.keywords["gathering"] is None
