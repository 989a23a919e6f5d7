"""Images that ended the worker are recognized by their content; against the whole service."""

import pytest

from app.batching.batcher import DeviceError
from app.batching.errors import Quarantined
from app.batching.jobs import Batch, Fault
from app.contents import Content
from app.quarantine import QUARANTINE_SECONDS, SUSPECT_SECONDS, Quarantine
from tests.app.fake_device import FakeDevice, Served, run, served, until

POISON = "end the worker"


def image(number: int = 0) -> tuple[Content, str | None, str]:
    return Content(b"pixels %d" % number), "a fox", "m"


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def noted(quarantine: Quarantine, crashes: int, number: int = 0) -> None:
    quarantine.record(*image(number), crashes)
    await quarantine.settled()


def test_an_image_goes_from_unknown_to_suspect_to_quarantined_and_is_forgotten_in_time() -> None:
    async def scenario() -> None:
        clock = Time()
        quarantine = Quarantine(clock)
        assert await quarantine.check(*image()) == 0
        await noted(quarantine, 1)
        assert await quarantine.check(*image()) == 1
        await noted(quarantine, 2)
        clock.now = QUARANTINE_SECONDS - 1
        with pytest.raises(Quarantined):
            await quarantine.check(*image())
        clock.now = QUARANTINE_SECONDS + 1
        assert await quarantine.check(*image()) == 0

    run(scenario)


def test_a_suspect_is_cleared_by_a_score_or_by_time() -> None:
    async def scenario() -> None:
        clock = Time()
        quarantine = Quarantine(clock)
        await noted(quarantine, 1, number=1)
        await noted(quarantine, 1, number=2)
        await noted(quarantine, 0, number=1)
        assert [await quarantine.check(*image(n)) for n in (1, 2)] == [0, 1]
        clock.now = SUSPECT_SECONDS + 1
        assert await quarantine.check(*image(2)) == 0

    run(scenario)


@pytest.mark.parametrize(
    "other",
    [
        (Content(b"other"), "a fox", "m"),
        (Content(b"pixels 0"), None, "m"),
        (Content(b"pixels 0"), "a fox", "n"),
    ],
    ids=["bytes", "prompt", "model"],
)
def test_only_the_same_bytes_prompt_and_model_are_recognized(
    other: tuple[Content, str | None, str],
) -> None:
    async def scenario() -> None:
        quarantine = Quarantine(Time())
        await noted(quarantine, 2)
        assert await quarantine.check(*other) == 0

    run(scenario)


def test_it_holds_a_bounded_number_and_drops_the_oldest() -> None:
    async def scenario() -> None:
        quarantine = Quarantine(Time(), most=3)
        for number in range(5):
            await noted(quarantine, 2, number)
        assert [await quarantine.check(*image(n)) for n in (0, 1)] == [0, 0]
        for number in (2, 3, 4):
            with pytest.raises(Quarantined):
                await quarantine.check(*image(number))

    run(scenario)


def test_suspects_drive_no_quarantined_image_out() -> None:
    async def scenario() -> None:
        quarantine = Quarantine(Time(), most=3)
        await noted(quarantine, 2)
        for number in range(1, 9):
            await noted(quarantine, 1, number)
        with pytest.raises(Quarantined):
            await quarantine.check(*image())

    run(scenario)


def dies_of_poison(device: FakeDevice) -> None:
    def fault(batch: Batch) -> Exception | None:
        prompts = {piece.job.payload.prompt for piece in batch.slices}
        return DeviceError(Fault.WORKER_DIED) if POISON in prompts else None

    device.fault = fault


async def code(here: Served, prompt: str, **headers: str) -> tuple[int, str | None]:
    answer = await here.post(prompt, **headers)
    return answer.status_code, answer.json().get("code")


def test_an_image_that_ended_the_worker_twice_is_refused_before_it_costs_anything() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        dies_of_poison(device)
        async with served(device) as here:
            assert await code(here, POISON) == (422, "quarantined")
            await here.app.state.service.scoring.quarantine.settled()
            before = len(device.batches)
            assert before == 2
            assert await code(here, POISON) == (422, "quarantined")
            assert len(device.batches) == before
            assert here.metric("agiqa_request_failures_total", reason="quarantined") == 2
            assert await code(here, "a fox") == (200, None)

    run(scenario)


def test_hanging_up_between_two_crashes_saves_no_image_from_the_quarantine() -> None:
    async def scenario() -> None:
        device = FakeDevice()
        dies_of_poison(device)
        async with served(device) as here:
            quarantine = here.app.state.service.scoring.quarantine
            for kills in (1, 2):
                device.gate.clear()
                headers = {"X-Request-Timeout": "0.5"}
                assert await code(here, POISON, **headers) == (504, "deadline")
                assert len(device.batches) == kills
                device.gate.set()
                await until(lambda: not here.app.state.service._batcher._tasks)
                await quarantine.settled()
            assert await code(here, POISON) == (422, "quarantined")

    run(scenario)
