"""A device without a process, and the whole service around it, spoken to over HTTP in memory."""

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI

from app.batching.batcher import Outcome
from app.batching.jobs import Batch, Slice
from app.batching.lending import Lending
from app.device.arena import Arena, Slot, slot_bytes
from app.device.messages import LoadedModel, Ready, Reloaded, WorkerSettings
from app.device.supervisor import OnChange
from app.main import create_app
from app.settings import Settings
from model.config import BackboneConfig, CheckpointConfig, Head
from model.decoding.decoder import Decoded
from model.preprocess import images
from model.preprocess.crops import Layout, cut
from model.preprocess.headers import Header
from model.scores import Score
from tests.app.pictures import encoded, picture

SETTINGS = Settings(models=("fake",), max_crop_mib=4, decode_workers=1)
QUALITY = 0.75


def loaded(*heads: Head, name: str = "fake") -> LoadedModel:
    """A model that computes these heads, as a worker would describe it."""
    backbone = BackboneConfig(source="open_clip", name="ViT-B-32", pretrained="openai")
    config = CheckpointConfig(name=name, method="any", backbone=backbone, heads=heads)
    return LoadedModel(config, config.crop_policy, "cpu", "float32")


GENERATED = loaded("quality", "alignment", "consistency")


def scored(slice_: Slice) -> Any:
    """A Score for the slice that completes its image, rows for another."""
    if not slice_.completes:
        return np.zeros((slice_.rows, 1), np.float32)
    return Score(1, quality=QUALITY, alignment=QUALITY, consistency=QUALITY)


class FakeDevice:
    """Answers each slice at once, unless the test holds it back or lets it fail.

    ``batches`` are those that came; while ``gate`` is cleared, they wait; ``fault`` says what
    becomes of one (None: its results); ``timings`` are the first measure of the models' rates,
    ``prompt_seconds`` of what a prompt takes.
    """

    def __init__(
        self, *models: LoadedModel, result: Callable[[Slice], Any] = scored, up: bool = False
    ) -> None:
        self.arena: Arena  # once it is part of a service
        self.models = models or (GENERATED,)
        self.result = result
        self.up = up
        self.batches: list[Batch] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fault: Callable[[Batch], Exception | None] = lambda _: None
        self.start_error: Exception | None = None
        self.reload_error: Exception | None = None
        self.reloaded = self.models[0]
        self.timings: dict[str, list[tuple[int, float]]] = {}
        self.prompt_seconds: dict[str, float] = {}
        self.measures = False
        self.lending: Lending | None = None
        self.on_change: OnChange = lambda _, __: None

    async def start(self, on_change: OnChange) -> None:
        if self.start_error:
            raise self.start_error
        self.on_change = on_change
        self.come_up()

    async def run(self, batch: Batch) -> Outcome:
        self.batches.append(batch)
        await self.gate.wait()
        if error := self.fault(batch):
            raise error
        return Outcome([self.result(piece) for piece in batch.slices], 0.001)

    async def reload(self, model: str, serves: str) -> Reloaded:
        if self.reload_error:
            raise self.reload_error
        return Reloaded(0, self.reloaded, [(1, 0.001)])

    async def stop(self) -> None:
        self.up = False

    @property
    def images(self) -> int:
        """How many slices came."""
        return sum(len(batch.slices) for batch in self.batches)

    def come_up(self) -> None:
        self.up = True
        ready = Ready(self.models, self.timings, self.prompt_seconds, self.measures)
        self.on_change(ready, "started")
        if self.lending:
            self.on_change(dataclasses.replace(ready, lending=self.lending), "measured")

    def die(self) -> None:
        self.up = False
        self.on_change(None, "killed")


class InProcessDecoder:
    """Decodes where it is called; a ``gate`` holds it back, with the arena's slot in its hands."""

    gate: threading.Event | None = None

    def __init__(self, _: Settings, arena: Arena, __: Callable[[str], None]) -> None:
        self.arena = arena

    def start(self) -> None:
        """There is no process."""

    def hold(self, data: bytes) -> None:
        """Waits with writing."""
        del data
        assert self.gate is None or self.gate.wait(20)

    def decode(
        self,
        data: bytes,
        header: Header,
        layout: Layout,
        *,
        offset: int,
        stamp: int,
    ) -> Decoded:
        out = self.arena.crops(Slot(offset, slot_bytes(layout.nbytes), stamp), layout.array_shape)
        self.hold(data)
        del header
        cut(images.decode(data), layout, out)
        return Decoded(0.001)

    def close(self) -> None:
        """There is no process."""


@dataclass
class Served:
    """An application whose lifespan runs, and a client for it."""

    app: FastAPI
    client: httpx.AsyncClient

    async def post(self, prompt: str = "a fox", **headers: str) -> httpx.Response:
        """Sends a small image, which costs three rows."""
        files, data = {"image": ("a.png", SMALL)}, {"prompt": prompt}
        return await self.client.post("/score-agi", files=files, data=data, headers=headers)

    def metric(self, name: str, **labels: str) -> float:
        """The value of one series; 0 if it is not there."""
        registry = self.app.state.service.metrics.registry
        return registry.get_sample_value(name, labels) or 0.0


SMALL = encoded(picture(224, 224))


@asynccontextmanager
async def served(
    device: FakeDevice | Sequence[FakeDevice], settings: Settings = SETTINGS, **parts: Any
) -> AsyncIterator[Served]:
    """The application with that device, or those; leaving drains it as a shutdown does."""
    devices = iter([device] if isinstance(device, FakeDevice) else device)

    def with_arena(_: WorkerSettings, arena: Arena) -> FakeDevice:
        made = next(devices)
        made.arena = arena
        return made

    app = create_app(settings, device=with_arena, **{"decoder": InProcessDecoder} | parts)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        for _ in range(2):  # the tasks that start the devices have run
            await asyncio.sleep(0)
        yield Served(app, client)


async def until(what: Callable[[], bool]) -> None:
    """Lets the other tasks and threads run until ``what()`` is true."""
    while not what():  # noqa: ASYNC110 - the service sets no event for its tests
        await asyncio.sleep(0.001)


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Runs a test on an event loop; one that hangs fails."""

    async def within_time() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(within_time())
