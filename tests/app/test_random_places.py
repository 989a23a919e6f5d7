"""The service's random windows over a file are those that every other way of scoring places."""

import dataclasses

from model.config import CropPolicy
from model.preprocess.crops import CropPlanner
from tests.app.fake_device import GENERATED, FakeDevice, run, served
from tests.app.pictures import encoded, picture

POLICY = CropPolicy.random()
SIZE = (300, 260)


def test_images_of_one_size_are_looked_at_in_places_of_their_own() -> None:
    async def scenario() -> None:
        model = dataclasses.replace(GENERATED, policy=POLICY)
        device = FakeDevice(model)
        files = [encoded(picture(*SIZE, seed=seed)) for seed in range(3)]
        async with served(device) as here:
            for data in files:
                answer = await here.client.post("/score", files={"image": ("a.png", data)})
                assert answer.status_code == 200
        planned = [piece.job.payload.layout for batch in device.batches for piece in batch.slices]
        placed = [tuple(layout.grid.windows) for layout in planned]
        expected = [
            tuple(CropPlanner(model.config, POLICY).for_file(data).plan(*SIZE).grid.windows)
            for data in files
        ]
        assert placed == expected
        assert len(set(placed)) == 3
        assert {layout.windows for layout in planned} == {8}

    run(scenario)
