"""Requests that wait for others, while the door refuses."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from app.http.limits.gathering import Gathering
from app.http.limits.protocol import LimitedProtocol
from app.http.limits.unread import READ_BYTES
from tests.app.fake_device import run, until
from tests.app.http.limits.connected import (
    ASK,
    LONG,
    MOMENT,
    ClosedDoor,
    Served,
    everything,
    serving,
)

UPLOAD = b"POST /a HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\nxx"
LARGE = UPLOAD.replace(b"2", b"%d" % (READ_BYTES + 1))
REFUSED = b"HTTP/1.1 429 "


@dataclass
class Scene:
    """A server whose door refuses, what it has received, and its connections."""

    served: Served
    door: ClosedDoor
    received: list[int] = field(default_factory=list)
    made: list[LimitedProtocol] = field(default_factory=list)

    async def came(self, size: int) -> None:
        """Waits until so many bytes have come."""
        await until(lambda: sum(self.received) == size)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[[Scene], None]:
    def watch(scene: Scene) -> None:
        received, begun = LimitedProtocol.data_received, LimitedProtocol.connection_made

        def data_received(protocol: LimitedProtocol, data: bytes) -> None:
            received(protocol, data)
            scene.received.append(len(data))

        def connection_made(protocol: LimitedProtocol, transport: asyncio.Transport) -> None:
            scene.made.append(protocol)
            begun(protocol, transport)

        monkeypatch.setattr(LimitedProtocol, "data_received", data_received)
        monkeypatch.setattr(LimitedProtocol, "connection_made", connection_made)

    return watch


@asynccontextmanager
async def refusing(
    watch: Callable[[Scene], None], *, seconds: float = LONG, most: int = 99, kept: float = LONG
) -> AsyncIterator[Scene]:
    door = ClosedDoor()
    door.is_refusing = True
    async with serving(kept=kept, door=door, gathering=Gathering(door, seconds, most)) as served:
        scene = Scene(served, door)
        watch(scene)
        yield scene


def test_they_are_looked_at_together_when_the_first_has_waited_its_time_in_their_order() -> None:
    async def scenario() -> None:
        door, looked = ClosedDoor(), []

        class One:
            def __init__(self, number: int) -> None:
                self.look = lambda: looked.append(number)

        gathering = Gathering(door, MOMENT, 3)
        for _ in range(2):
            looked.clear()
            gathering.add(One(1))
            gathering.add(One(2))
            await asyncio.sleep(0)
            assert not looked
            await until(lambda: bool(looked))
            assert looked == [1, 2]

        looked.clear()
        full = Gathering(door, LONG, 3)
        for number in range(4):
            full.add(One(number))
        await until(lambda: len(looked) == 3)
        await asyncio.sleep(MOMENT)
        assert looked == [0, 1, 2]  # the last one waits for others

    run(scenario)


def test_requests_wait_until_there_are_enough(watched: Callable[[Scene], None]) -> None:
    async def scenario() -> None:
        async with refusing(watched, most=3) as scene:
            readers = [(await scene.served.open(UPLOAD))[0] for _ in range(2)]
            await scene.came(2 * len(UPLOAD))
            await asyncio.sleep(MOMENT)
            assert not scene.door.asked
            readers.append((await scene.served.open(UPLOAD))[0])
            for reader in readers:
                assert (await reader.readuntil(b"not now")).startswith(REFUSED)

    run(scenario)


def test_a_connection_waits_with_each_of_its_requests(watched: Callable[[Scene], None]) -> None:
    async def scenario() -> None:
        async with refusing(watched, seconds=MOMENT) as scene:
            reader, writer = await scene.served.open()
            for count in range(1, 4):
                writer.write(UPLOAD)
                assert (await reader.readuntil(b"not now")).startswith(REFUSED)
                assert len(scene.door.asked) == count
            scene.door.is_open = True
            writer.write(UPLOAD)
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")

    run(scenario)


@pytest.mark.parametrize("request_", [ASK, UPLOAD.replace(b"/a", b"/b"), b"P" + UPLOAD, LARGE])
def test_nothing_else_waits(watched: Callable[[Scene], None], request_: bytes) -> None:
    async def scenario() -> None:
        async with refusing(watched) as scene:
            reader, _ = await scene.served.open(request_)
            assert (await reader.readline()).startswith(b"HTTP/1.1 ")

    run(scenario)


def test_nobody_waits_when_nobody_is_refused(watched: Callable[[Scene], None]) -> None:
    async def scenario() -> None:
        async with refusing(watched) as scene:
            scene.door.is_refusing = False
            reader, _ = await scene.served.open(UPLOAD)
            assert (await reader.readuntil(b"not now")).startswith(REFUSED)

    run(scenario)


def test_what_comes_in_parts_while_it_waits_is_whole(watched: Callable[[Scene], None]) -> None:
    async def scenario() -> None:
        async with refusing(watched, seconds=4 * MOMENT) as scene:
            scene.door.is_open = True
            reader, writer = await scene.served.open(UPLOAD[:-1])
            await scene.came(len(UPLOAD) - 1)
            writer.write(UPLOAD[-1:] + ASK)
            await reader.readuntil(b"ok")
            await reader.readuntil(b"ok")
            assert scene.served.bodies == {"/a": 1, "/quick": 1}

    run(scenario)


def test_who_leaves_while_it_waits_is_not_looked_at(watched: Callable[[Scene], None]) -> None:
    async def scenario() -> None:
        async with refusing(watched, most=2) as scene:
            _, writer = await scene.served.open(UPLOAD)
            await scene.came(len(UPLOAD))
            writer.close()
            await scene.served.until(0)
            reader, _ = await scene.served.open(UPLOAD)
            await reader.readuntil(b"not now")
            assert scene.door.asked == ["POST /a"]

    run(scenario)


def test_who_waits_when_the_server_ends_is_answered(watched: Callable[[Scene], None]) -> None:
    async def scenario() -> None:
        async with refusing(watched) as scene:
            scene.door.is_open = True
            reader, _ = await scene.served.open(UPLOAD)
            await scene.came(len(UPLOAD))
            scene.made[0].shutdown()
            answer = await everything(reader)
            assert answer.startswith(b"HTTP/1.1 200")
            assert answer.endswith(b"ok")

    run(scenario)


def test_the_time_of_an_idle_connection_ends_when_its_request_has_come(
    watched: Callable[[Scene], None],
) -> None:
    async def scenario() -> None:
        async with refusing(watched, seconds=1.5, kept=1.0) as scene:
            reader, writer = await scene.served.open(UPLOAD)
            await reader.readuntil(b"not now")
            writer.write(UPLOAD)
            await reader.readuntil(b"not now")

    run(scenario)
