"""What the probes answer, and what ``?verbose`` adds."""

import asyncio
import json

import pytest

from app.settings import Settings
from tests.app.fake_device import SETTINGS, FakeDevice, run, served, until

KEYED = SETTINGS.model_copy(update={"api_keys": ("secret-1",), "admin_keys": ("secret-2",)})


@pytest.mark.parametrize("path", ["/readyz", "/v2/health/ready"])
def test_readiness_has_two_names_that_need_no_key(path: str) -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device, KEYED) as here:
            ready = await here.client.get(path)
            assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
            device.die()
            down = await here.client.get(path)
            assert (down.status_code, down.json()["code"]) == (503, "worker_down")
            live = await here.client.get("/v2/health/live")
            assert (live.status_code, live.json()) == (200, {"status": "alive"})

    run(scenario)


@pytest.mark.parametrize("query", ["verbose", "verbose=", "verbose=1"])
def test_verbose_readiness_shows_models_queue_and_limits_and_no_secret(query: str) -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device, KEYED) as here:
            answer = await here.client.get(f"/readyz?{query}")
            assert answer.status_code == 200
            shown = answer.json()
            assert (shown["status"], shown["state"], shown["worker_up"]) == ("ready", "ready", True)
            (model,) = shown["models"]
            assert (model["name"], model["device"], model["dtype"]) == ("fake", "cpu", "float32")
            assert "revision" in model
            assert shown["queue"] == {"images": 0, "rows": 0}
            assert shown["admitted"] == {"rows": 0, "crop_bytes": 0}
            assert shown["backlog_seconds"] == {"interactive": 0, "bulk": 0}
            assert shown["margin"] == 1
            limits = shown["limits"]
            assert (limits["crop_bytes"], limits["decode_workers"]) == (4 * 2**20, 1)
            assert limits["rows"] == Settings.model_fields["max_rows"].default
            assert "secret" not in json.dumps(shown)

    run(scenario)


def test_verbose_readiness_shows_what_is_admitted() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        device.timings = {"fake": [(1, 0.5)]}
        async with served(device) as here:
            device.gate.clear()
            task = asyncio.create_task(here.post())
            await until(lambda: bool(device.batches))
            shown = (await here.client.get("/readyz?verbose")).json()
            assert shown["admitted"]["rows"] == 3
            assert shown["backlog_seconds"]["interactive"] > 0
            device.gate.set()
            await task

    run(scenario)


def test_verbose_readiness_says_why_the_service_is_not_ready() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device) as here:
            device.die()
            answer = await here.client.get("/readyz?verbose")
            assert answer.status_code == 503
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["retry-after"]
            shown = answer.json()
            assert (shown["code"], shown["status"]) == ("worker_down", 503)
            assert (shown["state"], shown["worker_up"]) == ("worker_down", False)
            assert shown["limits"]["deadline_seconds"] == 10

    run(scenario)
