"""The whole service over HTTP, in memory, on a device without a process."""

import asyncio
import threading

import httpx
import pytest
from starlette.types import Message

from app.batching.admission import State
from app.batching.batcher import DeviceError
from app.batching.jobs import Batch, Fault
from app.catalogue import Models
from app.device.messages import RESTART_REASONS, Ready
from app.device.supervisor import StartError
from app.settings import Settings
from tests.app.fake_device import (
    QUALITY,
    SETTINGS,
    SMALL,
    FakeDevice,
    InProcessDecoder,
    Served,
    run,
    served,
    until,
)


def prompts(batch: Batch) -> list[str]:
    return [piece.job.payload.prompt for piece in batch.slices]


def outcome(response: httpx.Response) -> tuple[int, str | None]:
    return response.status_code, response.json().get("code")


async def waiting(here: Served, *names: str) -> "list[asyncio.Task[httpx.Response]]":
    """Sends an image for each of these prompts, of which none is handed over yet."""
    tasks = [asyncio.create_task(here.post(name)) for name in names]
    await until(lambda: here.metric("agiqa_queue_requests") == len(names))
    return tasks


def test_an_image_is_scored() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device) as here:
            response = await here.post("a fox")
            assert response.status_code == 200
            heads = [response.json()[head] for head in ("quality", "alignment", "consistency")]
            assert heads == [QUALITY] * 3
            assert [prompts(batch) for batch in device.batches] == [["a fox"]]
            assert here.metric("agiqa_score_count", model="fake", head="quality") == 1

    run(scenario)


def test_an_unresponsive_worker_costs_readiness_but_counts_as_no_restart() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device) as here:
            device.on_change(None, "unresponsive")
            assert outcome(await here.client.get("/readyz")) == (503, "worker_down")
            device.on_change(Ready(device.models, {}), "recovered")
            assert (await here.client.get("/readyz")).status_code == 200
            for reason in RESTART_REASONS:
                assert here.metric("agiqa_worker_restarts_total", reason=reason) == 0

    run(scenario)


def test_a_worker_that_ends_before_the_first_is_ready_leaves_the_service_loading() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        device.come_up = lambda: device.on_change(None, "killed")  # type: ignore[method-assign]
        async with served(device) as here:
            assert outcome(await here.client.get("/readyz")) == (503, "loading")
            assert here.metric("agiqa_worker_restarts_total", reason="killed") == 1

    run(scenario)


def test_the_log_names_the_requests_of_a_batch_that_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        device = FakeDevice()
        device.fault = lambda _: DeviceError(Fault.INFERENCE, "no kernel")
        async with served(device) as here:
            assert (await here.post("a fox", **{"X-Request-ID": "look-for-me"})).status_code == 500

    run(scenario)
    (failed,) = [r for r in caplog.records if r.getMessage() == "batch failed"]
    assert vars(failed)["requests"] == ["look-for-me"]


def test_a_split_image_gets_one_answer() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device, SETTINGS.model_copy(update={"max_batch_rows": 1})) as here:
            assert (await here.post("split")).status_code == 200
            assert [prompts(batch) for batch in device.batches] == [["split"]] * 3

    run(scenario)


def test_without_a_worker_requests_are_refused_and_readiness_falls_but_not_liveness() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device) as here:
            assert (await here.client.get("/readyz")).status_code == 200
            device.die()
            assert outcome(await here.post()) == (503, "worker_down")
            assert outcome(await here.client.get("/readyz")) == (503, "worker_down")
            assert (await here.client.get("/livez")).status_code == 200
            assert here.metric("agiqa_worker_up", device="cpu") == 0
            assert here.metric("agiqa_worker_restarts_total", reason="killed") == 1
            device.come_up()
            assert (await here.client.get("/readyz")).status_code == 200
            assert (await here.post()).status_code == 200

    run(scenario)


def test_an_image_that_the_network_fails_on_spoils_nothing_for_those_of_its_batch() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        device.fault = lambda b: DeviceError(Fault.INFERENCE) if "bad" in prompts(b) else None
        async with served(device) as here:
            device.up = False
            tasks = await waiting(here, "a", "bad", "c")
            device.come_up()
            answers = [outcome(response) for response in await asyncio.gather(*tasks)]
            assert answers == [(200, None), (500, "inference_failed"), (200, None)]
            assert prompts(device.batches[0]) == ["a", "bad", "c"]
            assert here.metric("agiqa_request_failures_total", reason="inference") == 1

    run(scenario)


def test_in_a_batch_call_only_the_image_that_fails_has_an_error() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        device.fault = lambda b: DeviceError(Fault.INFERENCE) if "bad" in prompts(b) else None
        async with served(device) as here:
            files = [("images", (name, SMALL)) for name in "abc"]
            data = {"prompts": ["fine", "bad", "fine"]}
            response = await here.client.post("/score-agi/batch", files=files, data=data)
            items = response.json()["results"]
            assert [item.get("code") for item in items] == [None, "inference_failed", None]
            assert [item.get("quality") for item in items] == [QUALITY, None, QUALITY]

    run(scenario)


def test_a_batch_that_memory_cannot_hold_is_halved_and_everyone_is_answered() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        device.fault = lambda b: DeviceError(Fault.OUT_OF_MEMORY) if b.rows > 4 else None
        async with served(device) as here:
            device.up = False
            tasks = await waiting(here, "a", "b", "c")
            device.come_up()
            assert {r.status_code for r in await asyncio.gather(*tasks)} == {200}
            assert [batch.rows for batch in device.batches] == [9, 3, 3, 3]
            assert here.metric("agiqa_oom_total") == 1

    run(scenario)


@pytest.mark.filterwarnings("ignore")
def test_a_batch_that_is_lost_answers_with_nothing_internal() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        device.fault = lambda b: RuntimeError("a secret path") if "odd" in prompts(b) else None
        async with served(device) as here:
            response = await here.post("odd")
            assert outcome(response) == (500, "internal")
            assert "secret" not in response.text
            assert (await here.post("fine")).status_code == 200

    run(scenario)


def test_a_deadline_that_passes_in_the_queue_costs_no_computation() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device) as here:
            device.up = False
            late = await here.post("late", **{"X-Request-Timeout": "0.05"})
            assert outcome(late) == (504, "deadline")
            device.come_up()
            assert (await here.post("next")).status_code == 200
            assert [prompts(batch) for batch in device.batches] == [["next"]]

    run(scenario)


def test_a_deadline_that_passes_while_the_batch_runs_is_answered_all_the_same() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device) as here:
            device.gate.clear()
            late = await here.post("late", **{"X-Request-Timeout": "0.5"})
            assert outcome(late) == (504, "deadline")
            assert len(device.batches) == 1
            assert (await here.client.get("/readyz")).status_code == 200
            device.gate.set()
            assert (await here.post("next")).status_code == 200

    run(scenario)


def test_what_a_client_left_behind_is_never_computed() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device) as here:
            device.up = False
            gone, stays = await waiting(here, "gone", "stays")
            gone.cancel()
            await until(lambda: here.metric("agiqa_queue_requests") == 1)
            device.come_up()
            assert (await stays).status_code == 200
            assert [prompts(batch) for batch in device.batches] == [["stays"]]

    run(scenario)


def test_a_client_that_hangs_up_while_it_waits_is_counted_and_its_room_is_free_again() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device) as here:
            device.up = False
            hung_up = asyncio.Event()
            request = here.client.build_request("POST", "/score", files={"image": SMALL})
            parts: list[Message] = [{"type": "http.request", "body": request.read()}]

            async def receive() -> Message:
                if parts:
                    return parts.pop()
                await hung_up.wait()
                return {"type": "http.disconnect"}

            async def send(_: Message) -> None:
                """Nobody reads it."""

            headers = [(k.lower(), v) for k, v in request.headers.raw]
            scope = {"type": "http", "method": "POST", "path": "/score", "query_string": b""}
            call = asyncio.create_task(here.app(scope | {"headers": headers}, receive, send))
            await until(lambda: here.metric("agiqa_queue_requests") == 1)
            hung_up.set()
            await call
            assert here.metric("agiqa_request_failures_total", reason="client_gone") == 1
            assert here.metric("agiqa_queue_requests") == 0
            assert here.app.state.service.admission.cost == 0
            device.come_up()
        assert device.batches == []

    run(scenario)


def test_a_shutdown_finishes_what_was_admitted_and_refuses_what_comes() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device) as here:
            device.gate.clear()
            tasks = [asyncio.create_task(here.post(name)) for name in "abcd"]
            await until(lambda: device.images + here.metric("agiqa_queue_requests") == 4)
            here.app.state.service.begin_drain()
            assert outcome(await here.post("late")) == (503, "draining")
            assert outcome(await here.client.get("/readyz")) == (503, "draining")
            assert (await here.client.get("/livez")).status_code == 200
            assert not any(task.done() for task in tasks)
            device.gate.set()
        assert {response.status_code for response in await asyncio.gather(*tasks)} == {200}

    run(scenario)


def test_a_shutdown_waits_for_an_image_that_is_still_being_decoded() -> None:
    async def scenario() -> None:
        free = threading.Event()

        class Held(InProcessDecoder):
            gate = free

        async with served(FakeDevice(), decoder=Held) as here:
            service = here.app.state.service
            task = asyncio.create_task(here.post())
            await until(lambda: service.admission.cost > 0)

            async def decode_once_it_drains() -> None:
                await until(lambda: service.admission.state is State.DRAINING)
                free.set()

            freed = asyncio.create_task(decode_once_it_drains())
        await freed
        assert outcome(await task) == (200, None)

    run(scenario)


def test_what_a_shutdown_has_no_time_for_is_answered_too() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device, SETTINGS.model_copy(update={"drain_seconds": 0})) as here:
            device.gate.clear()
            task = asyncio.create_task(here.post("stuck"))
            await until(lambda: bool(device.batches))
        assert outcome(await task) == (503, "draining")

    run(scenario)


def test_work_that_cannot_be_in_time_is_refused_with_the_time_to_wait() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        device.timings = {"fake": [(1, 5.0)]}
        async with served(device) as here:
            device.gate.clear()
            first = asyncio.create_task(here.post("first"))
            await until(lambda: bool(device.batches))
            refused = await here.post("second")  # the first one is done after 15 s; due after 10
            assert outcome(refused) == (429, "overloaded")
            # When 2.5 s of it are left, a quarter of the deadline; and a quarter more by chance.
            assert 12 <= int(refused.headers["retry-after"]) <= 17
            assert (await here.client.get("/readyz")).status_code == 200
            device.gate.set()
            assert (await first).status_code == 200

    run(scenario)


def test_a_reached_ceiling_refuses_instead_of_waiting() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device, SETTINGS.model_copy(update={"max_rows": 4})) as here:
            device.gate.clear()
            first = asyncio.create_task(here.post("first"))
            await until(lambda: bool(device.batches))
            assert outcome(await here.post("second")) == (429, "overloaded")
            device.gate.set()
            assert (await first).status_code == 200
            assert (await here.post("third")).status_code == 200

    run(scenario)


def test_readiness_is_announced_once_however_often_the_worker_comes_up() -> None:
    async def scenario() -> None:
        device, heard = FakeDevice(), list[Models]()
        async with served(device, on_ready=heard.append):
            device.die()
            device.come_up()
        (models,) = heard
        assert [model.config.name for model in models] == ["fake"]

    run(scenario)


def test_models_that_cannot_be_loaded_are_fatal_and_nothing_is_served() -> None:
    async def scenario() -> None:
        device, heard = FakeDevice(), list[BaseException]()
        device.start_error = StartError("no checkpoint")
        async with served(device, on_fatal=heard.append) as here:
            assert outcome(await here.client.get("/readyz")) == (503, "loading")
            assert outcome(await here.post()) == (503, "loading")
            await until(lambda: bool(heard))
        assert heard == [device.start_error]

    run(scenario)


def test_api_keys_guard_the_scores_but_not_the_probes() -> None:
    async def scenario() -> None:
        keys = Settings(models=("fake",), max_crop_mib=4, api_keys=("first", "second"))
        async with served(FakeDevice(), keys) as here:
            refused = await here.post()
            assert outcome(refused) == (401, "unauthorized")
            assert refused.headers["www-authenticate"] == "Bearer"
            assert (await here.post(Authorization="Bearer wrong")).status_code == 401
            assert (await here.post(Authorization="Bearer second")).status_code == 200
            assert (await here.client.get("/models")).status_code == 401
            assert (await here.client.get("/readyz")).status_code == 200

    run(scenario)
