"""Who is decoded next."""

import asyncio
import threading
from collections.abc import Sequence
from functools import partial

import pytest

from app.device.arena import Slot
from app.device.decoders import DecodePool, Picture, Writing
from model.decoding.decoder import Decoded
from model.errors import UnreadableImage
from model.preprocess.crops import Layout
from model.preprocess.headers import Header
from model.preprocess.windows import Grid
from tests.app.fake_device import run, until

LAYOUT = Layout(Grid(1, 1, (1, 1), ((0, 0),)), ("quality",), ((0, 1),))
DONE = Decoded(0.0)


class Decoder:
    """Ends an image when it is let go; ``fate`` says how, try after try."""

    def __init__(self, fate: Sequence[Exception] = ()) -> None:
        self.fate = list(fate)
        self.begun: list[bytes] = []
        self.free = threading.Semaphore(0)
        self.closed = False

    def start(self) -> None:
        """There is no process."""

    def decode(self, data: bytes, *_: object, **__: object) -> Decoded:
        self.begun.append(data)
        assert self.free.acquire(timeout=20)
        if self.fate:
            raise self.fate.pop(0)
        return DONE

    def close(self) -> None:
        self.closed = True
        self.free.release(100)


def picture(name: str, owner: str = "a", deadline: float = 1.0, megapixels: int = 1) -> Picture:
    header = Header(1000, 1000, "PNG", decode_bytes=megapixels << 20)
    return Picture(name.encode(), header, LAYOUT, Slot(0, 64, 1), owner, deadline)


class Bench:
    """A pool on fake decoders."""

    def __init__(self, *decoders: Decoder, memory: int = 1 << 60) -> None:
        self.decoders = decoders
        self.pool = DecodePool(decoders, memory)

    @property
    def begun(self) -> list[str]:
        """Names of the images that decoders took, each decoder's in its order."""
        return [data.decode() for decoder in self.decoders for data in decoder.begun]

    async def until_begun(self, *names: str) -> None:
        await until(lambda: sorted(self.begun) == sorted(names))
        for _ in range(5):  # and no others
            await asyncio.sleep(0.001)
        assert sorted(self.begun) == sorted(names)

    async def end_one(self, name: str, writing: Writing) -> None:
        await until(lambda: name in self.begun)
        decoder = next(d for d in self.decoders if d.begun and d.begun[-1] == name.encode())
        decoder.free.release()
        await writing.decoded()


def test_the_earliest_deadline_is_next() -> None:
    async def scenario() -> None:
        bench = Bench(Decoder())
        pool = bench.pool
        first = pool.submit(picture("first"))
        late = pool.submit(picture("late", deadline=3.0))
        soon = pool.submit(picture("soon", deadline=2.0))
        await bench.until_begun("first")
        for name, writing in (("first", first), ("soon", soon), ("late", late)):
            await bench.end_one(name, writing)
        assert bench.begun == ["first", "soon", "late"]
        await pool.close()

    run(scenario)


def test_nobody_holds_more_than_half_of_the_decoders_while_others_wait() -> None:
    async def scenario() -> None:
        bench = Bench(*(Decoder() for _ in range(4)))
        pool = bench.pool
        greedy = [pool.submit(picture(f"a{i}")) for i in range(8)]
        await bench.until_begun("a0", "a1", "a2", "a3")  # alone, one may have them all
        pool.submit(picture("b0", owner="b", deadline=9.0))
        pool.submit(picture("b1", owner="b", deadline=9.0))
        await bench.end_one("a0", greedy[0])
        await bench.until_begun("a0", "a1", "a2", "a3", "b0")
        await bench.end_one("a1", greedy[1])
        await bench.until_begun("a0", "a1", "a2", "a3", "b0", "b1")
        await bench.end_one("a2", greedy[2])  # nobody else waits
        await bench.until_begun("a0", "a1", "a2", "a3", "b0", "b1", "a4")
        await pool.close()

    run(scenario)


def test_images_that_need_more_memory_than_there_is_go_one_after_the_other() -> None:
    async def scenario() -> None:
        most = 3 << 20
        bench = Bench(Decoder(), Decoder(), memory=most)
        pool = bench.pool
        large = pool.submit(picture("large", megapixels=9))  # alone, all the same
        small = pool.submit(picture("small"))
        await bench.until_begun("large")
        await bench.end_one("large", large)
        await bench.until_begun("large", "small")
        await bench.end_one("small", small)
        await pool.close()

    run(scenario)


def test_what_was_withdrawn_before_its_turn_never_begins() -> None:
    async def scenario() -> None:
        bench = Bench(Decoder())
        pool, ended = bench.pool, list[str]()
        running = pool.submit(picture("running"))
        waiting = pool.submit(picture("waiting"))
        next_ = pool.submit(picture("next"))
        for name, writing in (("running", running), ("waiting", waiting)):
            writing.withdraw()
            writing.when_ended(partial(ended.append, name))
        await bench.until_begun("running")
        assert ended == ["waiting"]  # the other one still writes into its slot
        await bench.end_one("running", running)
        await until(lambda: ended == ["waiting", "running"])
        await bench.end_one("next", next_)
        assert bench.begun == ["running", "next"]
        await pool.close()

    run(scenario)


def test_what_a_decoder_raises_reaches_who_waits_and_the_next_is_decoded() -> None:
    async def scenario() -> None:
        decoder = Decoder([UnreadableImage("odd"), RuntimeError("odd")])
        bench = Bench(decoder)
        decoder.free.release(9)
        with pytest.raises(UnreadableImage):
            await bench.pool.submit(picture("x")).decoded()
        with pytest.raises(RuntimeError):
            await bench.pool.submit(picture("y")).decoded()
        assert await bench.pool.submit(picture("z")).decoded() is DONE
        await bench.pool.close()
        assert decoder.closed

    run(scenario)
