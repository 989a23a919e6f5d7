"""A service whose first worker measured that several should share the CPU, in memory."""

import asyncio

import pytest

from app.batching.lending import Lending
from app.device.messages import Ready, WorkerSettings
from app.settings import Settings
from tests.app.fake_device import SETTINGS, FakeDevice, run, served, until

CPU = SETTINGS.model_copy(update={"device": "cpu"})
TWO = Lending(cores=2, workers=2, speedup=1.6, gain=1.25)


def test_the_second_worker_comes_after_the_first_and_both_serve() -> None:
    async def scenario() -> None:
        first, second = FakeDevice(), FakeDevice()
        first.lending = TWO
        async with served([first, second], CPU) as here:
            await until(lambda: here.metric("agiqa_worker_up", device="cpu") == 2)
            first.gate.clear()
            second.gate.clear()
            answers = [asyncio.create_task(here.post()) for _ in range(2)]
            await until(lambda: bool(first.batches and second.batches))
            first.gate.set()
            second.gate.set()
            assert [(await answer).status_code for answer in answers] == [200, 200]
            seen = (await here.client.get("/readyz?verbose")).json()
            assert seen["sharing"] == {"cores": 2, "workers": 2, "speedup": 1.6, "gain": 1.25}
            assert [worker["up"] for worker in seen["workers"]] == [True, True]

    run(scenario)


def test_it_shows_that_more_may_begin_until_it_is_measured() -> None:
    async def scenario() -> None:
        first = FakeDevice()
        first.measures = True
        async with served([first, FakeDevice()], CPU) as here:
            assert (await here.post()).status_code == 200
            seen = (await here.client.get("/readyz?verbose")).json()
            assert seen["sharing"] == "being measured"
            first.on_change(Ready(first.models, {}, measures=True, lending=TWO), "measured")
            await until(lambda: here.metric("agiqa_worker_up", device="cpu") == 2)
            seen = (await here.client.get("/readyz?verbose")).json()
            assert seen["sharing"]["workers"] == 2

    run(scenario)


def test_one_worker_stays_alone_where_that_is_faster() -> None:
    async def scenario() -> None:
        alone = FakeDevice()
        alone.lending = Lending(cores=2, workers=1, speedup=1.0, gain=0.9)
        async with served([alone], CPU) as here:
            assert (await here.post()).status_code == 200
            assert alone.batches[0].loan.threads == 2
            assert here.metric("agiqa_workers", device="cpu") == 1

    run(scenario)


def test_a_worker_that_comes_up_again_and_measures_again_brings_no_others() -> None:
    async def scenario() -> None:
        first, second = FakeDevice(), FakeDevice()
        first.lending = TWO
        async with served([first, second], CPU) as here:
            await until(lambda: here.metric("agiqa_worker_up", device="cpu") == 2)
            first.die()
            assert (await here.post()).status_code == 200
            first.come_up()
            assert here.metric("agiqa_workers", device="cpu") == 2

    run(scenario)


def test_a_first_measurement_with_all_cores_is_not_taken_for_that_of_one_among_others() -> None:
    async def scenario() -> None:
        first, second = FakeDevice(), FakeDevice()
        first.lending = TWO
        first.timings = {first.models[0].config.name: [(10, 0.1)]}
        async with served([first, second], CPU) as here:
            rate = here.app.state.service._lanes[0].rates.of(first.models[0].key)
            assert rate.seconds(10) == pytest.approx(0.16)
            first.die()
            first.come_up()  # and measures with all cores again
            assert rate.seconds(10) == pytest.approx(0.16)

    run(scenario)


@pytest.mark.parametrize(
    ("settings", "as_replica", "most"),
    [({}, False, "cores"), ({"workers": 1}, False, 1), ({}, True, 1)],
)
def test_a_worker_measures_only_where_the_cores_are_the_services_own(
    settings: dict[str, int],
    as_replica: bool,
    most: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from app import main

    monkeypatch.setattr(main, "usable_cores", lambda: 6)
    seen: list[WorkerSettings] = []

    def device(wanted: WorkerSettings, _: object) -> FakeDevice:
        seen.append(wanted)
        return FakeDevice()

    app = main.create_app(
        Settings(models=("fake",), max_crop_mib=4, decode_workers=1, **settings),  # type: ignore[arg-type]
        device=device,
        as_replica=as_replica,
    )
    app.state.service._slots.close()
    assert [each.most_workers for each in seen] == [6 if most == "cores" else most]
