"""Whoever hangs up, is late or finishes, in whatever order: nobody gets a score of another's
pixels, and all room comes back.
"""

import asyncio
import threading
import time
from asyncio import CancelledError
from collections import defaultdict
from typing import ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.batching.errors import DeadlineExceeded, Overloaded
from app.batching.jobs import Slice
from app.scoring import Scored
from app.service import Service
from app.settings import Settings
from app.uploads import Upload
from model.scores import Score
from tests.app.fake_device import GENERATED, FakeDevice, InProcessDecoder, run, served, until
from tests.app.pictures import encoded

IMAGES = 4
FILES = [encoded(Image.new("L", (224, 224), 50 * (i + 1))) for i in range(IMAGES)]
# What happens to an image, in whatever order: it comes, its decoder gets on, its client hangs up
# (twice: the deadline and the client both give a request up).
EVENTS = ("comes", "decoded", "gone", "gone")


# Room for the crops of two images, so that slots change hands.
SMALL = Settings(models=("fake",), max_crop_mib=0.3, decode_workers=2)


class HeldDecoder(InProcessDecoder):
    """Writes each image only when the test says so."""

    held: ClassVar[defaultdict[bytes, threading.Event]] = defaultdict(threading.Event)

    def hold(self, data: bytes) -> None:
        assert self.held[data].wait(20)


class PixelDevice(FakeDevice):
    """Scores an image by its brightness, as the shared memory has it."""

    def __init__(self) -> None:
        super().__init__(result=self.brightness)

    def brightness(self, piece: Slice) -> Score:
        whole = piece.job.payload
        return Score(
            1, quality=float(self.arena.crops(whole.slot, whole.layout.array_shape).mean())
        )


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(
    order=st.permutations([(event, i) for event in EVENTS for i in range(IMAGES)]),
    patient=st.sets(st.integers(0, IMAGES - 1)),
    seconds=st.lists(st.sampled_from([0.002, 60.0]), min_size=IMAGES, max_size=IMAGES),
)
def test_no_order_of_events_mixes_up_pixels_or_keeps_room(
    order: list[tuple[str, int]], patient: set[int], seconds: list[float]
) -> None:
    async def scenario() -> None:
        HeldDecoder.held.clear()
        device = PixelDevice()
        tasks: dict[int, asyncio.Task[Scored]] = {}

        async with served(device, SMALL, decoder=HeldDecoder) as here:
            service: Service = here.app.state.service
            for event, i in order:
                if event == "comes":
                    deadline = time.monotonic() + seconds[i]
                    work = service.scoring.score(
                        Upload(FILES[i]), GENERATED, ("quality",), deadline
                    )
                    tasks[i] = asyncio.create_task(work)
                elif event == "decoded":
                    HeldDecoder.held[FILES[i]].set()
                elif i in tasks and i not in patient:
                    tasks[i].cancel()
                for _ in range(3):
                    await asyncio.sleep(0)
            answers = await asyncio.gather(*tasks.values(), return_exceptions=True)
            for i, answer in zip(tasks, answers, strict=True):
                if isinstance(answer, Scored):
                    assert answer.score.quality == 50 * (i + 1)
                else:
                    assert isinstance(answer, DeadlineExceeded | Overloaded | CancelledError)
            await until(lambda: not service.admission.cost)
            assert service.admission.bytes == 0
            assert here.metric("agiqa_arena_bytes") == 0

    run(scenario)
