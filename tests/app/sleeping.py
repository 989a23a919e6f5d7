"""A service whose worker sleeps instead of computing: what surrounds it is measured with it."""

import asyncio
from typing import Any

from fastapi import FastAPI

from app.batching.batcher import Outcome
from app.batching.jobs import Batch
from app.device.arena import Arena
from app.device.messages import WorkerSettings
from app.main import create_app
from app.settings import Settings
from tests.app.fake_device import FakeDevice, InProcessDecoder

IMAGES_PER_SECOND = 12.5


class Sleeping(FakeDevice):
    """Takes as long for each image, however many come at once."""

    def __init__(self) -> None:
        super().__init__()
        self._one = asyncio.Lock()  # the next batch is handed over while one is computed

    async def run(self, batch: Batch) -> Outcome:
        seconds = len(batch.slices) / IMAGES_PER_SECOND
        async with self._one:
            await asyncio.sleep(seconds)
        return Outcome([self.result(piece) for piece in batch.slices], seconds)


def sleeping_app(settings: Settings, **parts: Any) -> FastAPI:
    """The application with that device."""

    def device(_: WorkerSettings, arena: Arena) -> Sleeping:
        made = Sleeping()
        made.arena = arena
        return made

    return create_app(settings, device=device, decoder=InProcessDecoder, **parts)
