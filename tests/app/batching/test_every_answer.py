"""Whatever comes, goes, fails and starts again: one answer for each admitted job, and every slot of
the shared memory comes back.
"""

import asyncio

from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.overload.clock import run
from tests.app.batching.mortal import Death, Image
from tests.app.batching.watched import ROWS
from tests.app.batching.whole_way import Way


def seconds(most: float) -> "st.SearchStrategy[float]":
    return st.floats(0, most, allow_nan=False)


def moments(most: int) -> "st.SearchStrategy[float]":
    """Times of which many are the same: crowds come, and leave, together."""
    return st.integers(0, 4 * most).map(lambda quarter: quarter / 4) | seconds(most)


def rarely(one_in: int) -> "st.SearchStrategy[bool]":
    return st.integers(0, one_in - 1).map(lambda chance: chance == one_in - 1)


IMAGES = st.builds(
    Image,
    at=moments(2),
    rows=st.integers(1, 3) | st.integers(1, 3 * ROWS),
    patience=st.floats(0.05, 8.0),
    leaves=st.none() | moments(2),
    hops=st.integers(0, 4),
    is_bulk=st.booleans(),
    poison=rarely(15),
    broken=rarely(6),
    absurd=rarely(40),
)
DEATHS = st.builds(Death, at=seconds(4.0), worker=st.integers(0, 3), hangs=st.booleans())
WORKERS = st.tuples(st.sampled_from([0.001, 0.004, 0.02]), st.integers(4, ROWS))


@given(
    images=st.lists(IMAGES, min_size=1, max_size=5) | st.lists(IMAGES, min_size=15, max_size=40),
    deaths=st.lists(DEATHS, max_size=6),
    workers=st.lists(WORKERS, min_size=1, max_size=4),
    load_seconds=st.floats(0.1, 3.0),
    drains_at=st.none() | seconds(4.0),
)
@example(  # one dies and the other one comes up at the very moments at which the books are read
    images=[Image(0.0, 1, 1.0), Image(0.0, 1, 1.0), Image(0.0, 1, 1.0), Image(0.5, 39, 1.0)],
    deaths=[Death(0.0, 1, hangs=True), Death(0.75, 0, hangs=False)],
    workers=[(0.004, 4), (0.001, 4)],
    load_seconds=0.3,
    drains_at=None,
)
@settings(max_examples=120, deadline=None)
def test_every_admitted_job_gets_one_answer_and_every_slot_comes_back(
    images: list[Image],
    deaths: list[Death],
    workers: list[tuple[float, int]],
    load_seconds: float,
    drains_at: float | None,
) -> None:
    async def play() -> None:
        way = Way(workers, load_seconds)
        batcher = asyncio.create_task(way.batcher.run())
        books = asyncio.create_task(way.watch())
        visits = [way.visit(image) for image in images]
        meetings = [way.meet(death) for death in deaths]
        await asyncio.gather(*visits, *meetings, way.drain(drains_at))
        for task in (batcher, books):
            if task.done():
                task.result()  # raises
        books.cancel()
        await asyncio.sleep(20.0)  # what nobody waits for any more runs to its end
        assert not batcher.done()
        batcher.cancel()
        way.check_rest()
        way.slots.close()

    run(play())
