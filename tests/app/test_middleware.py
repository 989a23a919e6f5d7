"""What surrounds every request, with tiny ASGI applications inside."""

import asyncio
import json
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.metrics import Metrics
from app.middleware import RequestContext


async def ask(app: ASGIApp) -> tuple[int, dict[str, str], Any]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/score", "headers": []}
    await app(scope, receive, send)
    start, body = sent
    headers = {k.decode(): v.decode() for k, v in start["headers"]}
    return start["status"], headers, json.loads(body["body"])


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("a secret path /home/me")


@pytest.mark.filterwarnings("ignore")
def test_an_unforeseen_error_is_a_problem_with_an_id_and_no_secret() -> None:
    metrics = Metrics()
    status, headers, body = asyncio.run(ask(RequestContext(broken, metrics)))
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
