"""A replica whose router looks at no /readyz: it waits for its worker, and so do requests."""

import asyncio

import pytest

from app.batching.admission import State
from tests.app.fake_device import SETTINGS, FakeDevice, run, served, until


def test_startup_ends_when_the_models_are_loaded() -> None:
    class Slow(FakeDevice):
        def come_up(self) -> None:
            asyncio.get_running_loop().call_later(0.02, super().come_up)

    async def test() -> None:
        async with served(Slow(), as_replica=True) as service:
            assert service.app.state.service.admission.state is State.READY

    run(test)


def test_startup_fails_with_what_keeps_the_models_from_being_loaded() -> None:
    async def test() -> None:
        device = FakeDevice()
        device.start_error = RuntimeError("no such checkpoint")
        with pytest.raises(RuntimeError, match="no such checkpoint"):
            async with served(device, as_replica=True):
                pass

    run(test)


def test_a_request_waits_for_a_worker_that_is_down() -> None:
    async def test() -> None:
        device = FakeDevice()
        async with served(device, as_replica=True) as service:
            device.die()
            request = asyncio.create_task(service.post())
            while not service.app.state.service.serving:  # noqa: ASYNC110 - it has come
                await asyncio.sleep(0)
            assert (await service.client.get("/readyz")).status_code == 503
            device.come_up()
            assert (await request).status_code == 200

    run(test)


def test_a_request_whose_time_is_over_is_answered_as_without_waiting() -> None:
    async def test() -> None:
        device = FakeDevice()
        async with served(device, as_replica=True) as service:
            device.die()
            late = await service.post(**{"X-Request-Timeout": "0.05"})
            assert (late.status_code, late.json()["code"]) == (503, "worker_down")
            wrong = await service.post(**{"X-Request-Timeout": "soon"})
            assert (wrong.status_code, wrong.json()["code"]) == (503, "worker_down")

    run(test)


def test_a_request_that_the_router_cancels_is_that_of_a_client_who_left() -> None:
    async def test() -> None:
        device = FakeDevice()
        async with served(device, as_replica=True) as service:
            device.gate.clear()
            request = asyncio.create_task(service.post())
            await until(lambda: bool(device.batches))
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            gone = {"code": "499", "endpoint": "/score-agi"}
            assert service.metric("agiqa_requests_total", **gone) == 1
            assert service.metric("agiqa_request_failures_total", reason="client_gone") == 1
            assert service.app.state.service.admission.cost == 0
            device.gate.set()

    run(test)


def test_the_request_id_is_sent_by_the_router_alone() -> None:
    async def test() -> None:
        async with served(FakeDevice(), SETTINGS, as_replica=True) as service:
            answer = await service.client.get("/none", headers={"X-Request-ID": "of-the-router"})
            assert answer.json()["request_id"] == "of-the-router"
            assert "x-request-id" not in answer.headers

    run(test)
