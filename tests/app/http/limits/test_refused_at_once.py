"""What is refused on the connection, before the application."""

import asyncio

import pytest

from app.http.limits.protocol import LimitedProtocol
from app.http.limits.unread import READ_BYTES
from tests.app.fake_device import run, until
from tests.app.http.limits.connected import ASK, MOMENT, ClosedDoor, everything, serving

UPLOAD = b"POST /a?x=1 HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\nxx"


def test_what_the_door_refuses_does_not_reach_the_application_and_keeps_its_connection() -> None:
    async def scenario() -> None:
        door = ClosedDoor()
        async with serving(door=door) as served:
            reader, writer = await served.open(2 * UPLOAD)
            for _ in range(2):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 429 ")
                assert b"content-length: 7\r\n" in head
                assert b"connection: close" not in head
                assert await reader.readexactly(7) == b"not now"
            door.is_open = True
            writer.write(UPLOAD + ASK)
            await reader.readuntil(b"ok")
            await reader.readuntil(b"ok")
            assert served.bodies == {"/a": 1, "/quick": 1}
            assert door.asked == 3 * ["POST /a"]

    run(scenario)


def test_a_connection_that_the_door_has_answered_is_an_idle_one() -> None:
    async def scenario() -> None:
        async with serving(kept=MOMENT, door=ClosedDoor()) as served:
            reader, _ = await served.open(UPLOAD)
            assert (await everything(reader)).endswith(b"not now")
            await served.until(0)

    run(scenario)


@pytest.mark.parametrize("is_ending", [False, True])
def test_of_a_large_body_that_the_door_refuses_nothing_more_is_taken_and_the_answer_arrives(
    monkeypatch: pytest.MonkeyPatch, *, is_ending: bool
) -> None:
    made: list[LimitedProtocol] = []
    begun = LimitedProtocol.connection_made

    def note(protocol: LimitedProtocol, transport: asyncio.Transport) -> None:
        made.append(protocol)
        begun(protocol, transport)

    monkeypatch.setattr(LimitedProtocol, "connection_made", note)

    async def scenario() -> None:
        async with serving(door=ClosedDoor()) as served:
            size = READ_BYTES + 1
            head = b"POST /a HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % size
            reader, writer = await served.open(head)
            assert b"connection: close\r\n" in await reader.readuntil(b"\r\n\r\n")
            if is_ending:
                made[0].shutdown()
            # What a client sends that does not look at answers yet.
            writer.write(b"x" * size + ASK)
            assert await everything(reader) == b"not now"
            await served.until(0)
            assert not served.bodies

    run(scenario)


@pytest.mark.parametrize(
    "request_",
    [
        UPLOAD.replace(b"POST", b"PUT"),
        UPLOAD.replace(b"/a", b"/b"),
        UPLOAD.replace(b"/a", b"/%61"),
        UPLOAD.replace(b"1.1", b"1.0"),
        UPLOAD.replace(b"Host: here", b"Connection: close"),
        UPLOAD.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked")[:-2] + b"0\r\n\r\n",
        UPLOAD.replace(b"Host: here", b"Connection: upgrade\r\nUpgrade: h2c"),
    ],
)
def test_the_door_is_not_asked_where_anything_is_out_of_the_ordinary(request_: bytes) -> None:
    async def scenario() -> None:
        door = ClosedDoor()
        async with serving(door=door) as served:
            reader, _ = await served.open(request_)
            await reader.readuntil(b"ok")
            assert not door.asked

    run(scenario)


def test_a_request_behind_one_that_is_being_served_waits_for_its_turn() -> None:
    async def scenario() -> None:
        door = ClosedDoor()
        async with serving(door=door) as served:
            reader, _ = await served.open(ASK.replace(b"quick", b"slow") + UPLOAD)
            await until(lambda: served.bodies["/slow"] == 1)
            served.release.set()
            await reader.readuntil(b"ok")
            await reader.readuntil(b"ok")
            assert served.bodies == {"/slow": 1, "/a": 1}
            assert not door.asked

    run(scenario)
