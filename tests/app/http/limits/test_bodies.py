"""Bodies are refused before they are read, and have limits while they are; no worker behind."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.types import Message

from app.batching.admission import State
from app.batching.fairness import ANYBODY, Priority, Sender
from app.batching.ledger import Load
from app.http.limits.bodies import BodyBudget
from app.http.limits.unread import READ_BYTES
from app.main import create_app
from app.settings import Settings
from tests.app.fake_device import FakeDevice, run, until
from tests.app.http.test_draining import Client

MIB = 2**20
OPENING = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
SETTINGS = Settings(models=("fake",), max_crop_mib=1, max_image_mib=1, max_body_mib=1)


def application(**changed: Any) -> FastAPI:
    settings = SETTINGS.model_copy(update=changed)
    app = create_app(settings, device=lambda _, __: FakeDevice())
    app.state.service.admission.state = State.READY
    return app


def in_flight(app: FastAPI) -> float:
    value = app.state.service.metrics.registry.get_sample_value("agiqa_body_bytes_in_flight")
    assert value is not None
    return float(value)


class Upload(Client):
    """Counts what is read of it."""

    def __init__(self, app: FastAPI, size: int | None, path: str = "/score") -> None:
        super().__init__()
        self.app = app
        self.path = path
        self.read = 0
        self.is_open = False
        self.extra = {"transfer-encoding": "chunked"}
        if size is not None:
            self.extra = {"content-length": str(size)}

    async def receive(self) -> Message:
        message = await self.parts.get()
        self.read += len(message.get("body", b""))
        return message

    def part(self, size: int, *, more: bool = True) -> None:
        opening = b"" if self.is_open else OPENING[:size]
        self.is_open = True
        body = opening.ljust(size, b"x")
        self.parts.put_nowait({"type": "http.request", "body": body, "more_body": more})

    async def send_all(self, **headers: str) -> tuple[int, str, dict[str, str]]:
        form = {"content-type": 'multipart/form-data; boundary="b"'}
        fields = {**form, **self.extra, **{k.replace("_", "-"): v for k, v in headers.items()}}
        scope = {"type": "http", "method": "POST", "path": self.path, "query_string": b""}
        scope["headers"] = [(k.encode(), v.encode()) for k, v in fields.items()]
        await self.app(scope, self.receive, self.send)
        return self.outcome


def under_way(upload: Upload) -> "asyncio.Task[tuple[int, str, dict[str, str]]]":
    upload.part(len(OPENING))
    return asyncio.create_task(upload.send_all())


def test_an_upload_for_which_there_is_no_room_is_refused_before_it_is_read() -> None:
    async def scenario() -> None:
        app = application(max_bodies_mib=1.5)
        first = Upload(app, MIB)
        task = under_way(first)
        await until(first.parts.empty)
        assert in_flight(app) == MIB
        second = Upload(app, MIB)
        for _ in range(2 * READ_BYTES // 2**16):
            second.part(2**16)
        status, code, headers = await second.send_all()
        assert (status, code) == (429, "overloaded")
        assert int(headers["retry-after"]) >= 1
        assert headers["connection"] == "close"
        assert second.read == 0
        assert in_flight(app) == MIB
        first.parts.put_nowait({"type": "http.disconnect"})
        await task
        assert in_flight(app) == 0

    run(scenario)


def test_an_upload_without_a_length_counts_as_it_comes() -> None:
    async def scenario() -> None:
        app = application(max_bodies_mib=1.25)
        first = Upload(app, None)
        task = asyncio.create_task(first.send_all())
        first.part(MIB // 2)
        await until(lambda: in_flight(app) == MIB // 2)
        second = Upload(app, None)
        second.part(MIB * 7 // 8)
        assert (await second.send_all())[:2] == (429, "overloaded")
        assert in_flight(app) == MIB // 2
        first.parts.put_nowait({"type": "http.disconnect"})
        await task
        assert in_flight(app) == 0

    run(scenario)


@pytest.mark.parametrize("size", [2 * MIB, 10**30])
def test_what_is_over_the_limit_of_a_body_takes_no_room(size: int) -> None:
    async def scenario() -> None:
        app = application()
        upload = Upload(app, size)
        assert (await upload.send_all())[:2] == (413, "too_large")
        assert in_flight(app) == upload.read == 0

    run(scenario)


def test_an_upload_that_trickles_is_given_up_and_its_room_given_back() -> None:
    async def scenario() -> None:
        app = application(body_seconds=0.05)
        upload = Upload(app, 1000)
        status, code, headers = await under_way(upload)
        assert (status, code) == (408, "slow_body")
        assert headers["connection"] == "close"
        assert in_flight(app) == 0
        text = app.state.service.metrics.text().decode()
        assert 'agiqa_request_failures_total{reason="slow_body"} 1.0' in text
        assert 'agiqa_requests_total{code="408",endpoint="/score"} 1.0' in text

    run(scenario)


def busy(app: FastAPI, seconds: float, sender: Sender = ANYBODY) -> None:
    """Work is admitted that is expected to take so long, and due before all that comes."""
    decoders = app.state.service.settings.decode_workers
    load = Load(1, 1, seconds * decoders)
    app.state.service.admission.promise("fake", load, 0.0, sender)


def test_where_the_work_before_it_takes_too_long_a_request_is_refused_unread() -> None:
    async def scenario() -> None:
        app = application()
        busy(app, 15.0)
        upload = Upload(app, MIB)
        status, code, headers = await upload.send_all()
        assert (status, code) == (429, "overloaded")
        assert int(headers["retry-after"]) >= 5
        assert upload.read == 0
        assert in_flight(app) == 0

    run(scenario)


@pytest.mark.parametrize(("timeout", "status"), [("4", 429), ("9", 422), ("soon", 422)])
def test_the_request_s_own_deadline_counts(timeout: str, status: int) -> None:
    async def scenario() -> None:
        app = application()
        busy(app, 3.0)  # half of the time may go by with waiting
        upload = Upload(app, 0)
        upload.part(0, more=False)
        assert (await upload.send_all(x_request_timeout=timeout))[0] == status

    run(scenario)


@pytest.mark.parametrize(
    ("priority", "outcome"),
    [(Priority.INTERACTIVE, (422, "bad_field")), (Priority.BULK, (429, "overloaded"))],
)
def test_a_batch_call_is_refused_unread_for_other_bulk_alone(
    priority: Priority, outcome: tuple[int, str]
) -> None:
    async def scenario() -> None:
        app = application()
        busy(app, 15.0, Sender(priority=priority))
        upload = Upload(app, 0, "/score/batch")
        upload.part(0, more=False)
        assert (await upload.send_all())[:2] == outcome

    run(scenario)


def test_an_unknown_class_is_named_with_those_that_there_are() -> None:
    async def scenario() -> None:
        upload = Upload(application(), MIB)
        assert (await upload.send_all(x_priority="urgent"))[:2] == (422, "bad_field")
        assert upload.read == 0

    run(scenario)


@pytest.mark.parametrize("size", [READ_BYTES, 0])
def test_a_small_body_does_not_cost_its_connection(size: int) -> None:
    async def scenario() -> None:
        app = application()
        busy(app, 15.0)
        assert "connection" not in (await Upload(app, size).send_all())[2]

    run(scenario)


def test_a_body_without_an_end_is_read_no_further_than_its_limit() -> None:
    async def scenario() -> None:
        app = application()
        upload = Upload(app, None)
        for _ in range(64):
            upload.part(2**16)
        status, code, headers = await upload.send_all()
        assert (status, code) == (413, "too_large")
        assert headers["connection"] == "close"
        assert upload.read <= MIB + READ_BYTES + 3 * 2**16

    run(scenario)


@pytest.mark.parametrize("take", [lambda b: b.take(11), lambda b: (b.take(6), b.take(5))])
def test_the_budget_gives_no_more_than_there_is(take: Callable[[BodyBudget], object]) -> None:
    budget = BodyBudget(10)
    with pytest.raises(Exception, match="Retry-After"):
        take(budget)
    budget.give_back(budget.bytes)
    budget.take(10)
