"""What clients get that the end of the service overtakes, with no worker behind it."""

import asyncio
import json
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.batching.admission import Admission, State
from app.batching.ledger import Ceilings
from app.http.draining import UntilDrained
from app.http.keys import Keys
from app.http.limits.unread import Unread
from app.http.middleware import Gate, RequestContext
from app.main import create_app
from app.metrics import Metrics
from app.settings import Settings
from tests.app.batching.known_device import KnownDevice
from tests.app.fake_device import FakeDevice, run, until

PART: Message = {"type": "http.request", "body": b"--b\r\n", "more_body": True}
REST: Message = {"type": "http.request", "body": b"y", "more_body": False}


class Client:
    """Sends parts of a body when the test says so, and keeps what it is sent."""

    def __init__(self, *parts: Message) -> None:
        self.sent: list[Message] = []
        self.parts: asyncio.Queue[Message] = asyncio.Queue()
        for part in parts:
            self.parts.put_nowait(part)

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def call(self, app: ASGIApp) -> None:
        headers = [
            (b"content-type", b'multipart/form-data; boundary="b"'),
            (b"transfer-encoding", b"chunked"),
        ]
        scope: Scope = {"type": "http", "method": "POST", "path": "/score", "headers": headers}
        scope["query_string"] = b""
        await app(scope, self.parts.get, self.send)

    @property
    def outcome(self) -> tuple[int, str, dict[str, str]]:
        start, *bodies = self.sent
        problem = json.loads(b"".join(body["body"] for body in bodies))
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        return start["status"], problem["code"], headers


async def for_ever(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await asyncio.Event().wait()


def surrounded(app: Any, state: State) -> tuple[Unread, Admission, set[Any], Metrics]:
    admission = Admission(Ceilings(1, 1), KnownDevice({}), lambda: 0.0)
    admission.state = state
    serving: set[Any] = set()
    metrics = Metrics()
    gate = Gate(app, admission, Settings(), Keys(()))
    whole = RequestContext(UntilDrained(gate, admission, serving), metrics)
    return Unread(whole, admission), admission, serving, metrics


def test_a_request_that_outlasts_the_drain_gets_a_problem_and_its_connection_is_closed() -> None:
    async def scenario() -> None:
        app, admission, serving, metrics = surrounded(for_ever, State.READY)
        client = Client(REST)
        task = asyncio.create_task(client.call(app))
        await asyncio.sleep(0)
        admission.state = State.DRAINING
        (request,) = serving
        request.cancel()
        await task
        status, code, headers = client.outcome
        assert (status, code) == (503, "draining")
        assert headers["content-type"] == "application/problem+json"
        assert headers["connection"] == "close"
        assert headers["retry-after"] in {"1", "2"}  # up to a quarter more, by chance
        assert not serving
        text = metrics.text().decode()
        assert 'agiqa_requests_total{code="503",endpoint="/score"} 1.0' in text
        assert 'agiqa_request_failures_total{reason="draining"} 1.0' in text

    run(scenario)


def test_a_request_that_is_cancelled_at_another_time_is_not_answered() -> None:
    async def scenario() -> None:
        app, _, serving, _ = surrounded(for_ever, State.READY)
        client = Client(REST)
        task = asyncio.create_task(client.call(app))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not client.sent
        assert not serving

    run(scenario)


def test_an_upload_under_way_is_answered_at_its_next_part_and_read_to_its_end() -> None:
    async def scenario() -> None:
        app = create_app(Settings(max_crop_mib=1), device=lambda _, __: FakeDevice())
        admission = app.state.service.admission
        admission.state = State.READY
        client = Client(PART)
        task = asyncio.create_task(client.call(app))
        await until(client.parts.empty)
        admission.state = State.DRAINING
        client.parts.put_nowait(PART)
        await until(lambda: len(client.sent) == 2)
        # The answer is there as a whole, and the connection is still open: a client that sends on
        # meets no reset, which could overtake it.
        assert client.outcome[:2] == (503, "draining")
        assert client.sent[-1]["more_body"]
        assert not task.done()
        client.parts.put_nowait(REST)
        await task
        assert client.sent[-1] == {"type": "http.response.body", "body": b""}

    run(scenario)


def test_whoever_sends_on_for_ever_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.http.limits.unread.LINGER_SECONDS", 0.01)

    async def scenario() -> None:
        app, admission, serving, _ = surrounded(for_ever, State.READY)
        client = Client(PART)
        task = asyncio.create_task(client.call(app))
        await asyncio.sleep(0)
        admission.state = State.DRAINING
        (request,) = serving
        request.cancel()
        await task
        assert client.outcome[:2] == (503, "draining")
        assert not client.sent[-1].get("more_body")

    run(scenario)
