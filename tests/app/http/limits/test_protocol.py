"""The limits that uvicorn does not have, on connections of this machine."""

import asyncio
import contextlib
import functools
import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import uvicorn
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from app.http.limits.protocol import (
    CROWDED,
    HEADER_BYTES,
    HEADERS,
    RESERVE,
    Connections,
    LimitedProtocol,
)
from app.http.limits.unread import READ_BYTES
from tests.app.fake_device import run, until

PATIENCE = 30.0
MOMENT = 0.05
LONG = 600.0
ASK = b"GET /quick HTTP/1.1\r\nHost: here\r\n\r\n"


class ClosedDoor:
    """Refuses each, until it is opened."""

    paths = frozenset({b"/a"})

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_open = False

    def refusal(self, scope: Scope) -> Response | None:
        self.asked.append(scope["method"] + " " + scope["path"])
        return None if self.is_open else PlainTextResponse("not now", 429)


@dataclass
class Served:
    """A server whose application answers at once, with much, or when it is released."""

    limits: Connections
    closed: "Counter[str]"
    port: int = 0
    bodies: Counter[str] = field(default_factory=Counter)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    crowded: list[bool] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.crowded.append(scope["state"][CROWDED])
        self.bodies[scope["path"]] += 1
        if scope["path"] == "/slow":
            await self.release.wait()
        body = b"x" * 2**24 if scope["path"] == "/large" else b"ok"
        length = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": body})

    async def open(self, first: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        writer.write(first)
        return reader, writer

    async def until(self, count: int) -> None:
        """Waits until so many connections are open."""
        await until(lambda: len(self.limits) == count)


@contextlib.asynccontextmanager
async def serving(
    most: int = 64,
    headers: float = LONG,
    reading: float = LONG,
    kept: float = LONG,
    door: ClosedDoor | None = None,
) -> AsyncIterator[Served]:
    closed: Counter[str] = Counter()
    limits = Connections(most, headers, reading, lambda limit: closed.update([limit]))
    served = Served(limits, closed)
    config = uvicorn.Config(
        served.app,
        interface="asgi3",
        log_config=None,
        access_log=False,
        ws="none",
        timeout_keep_alive=kept,  # type: ignore[arg-type]
    )
    make = functools.partial(LimitedProtocol, config, ServerState(), {}, limits=limits, door=door)
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    served.port = server.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        served.release.set()
        server.close()
        for writer in served.writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await served.until(0)


async def everything(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection is closed; a reset ends it too."""
    parts = []
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(2**16):
                parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    "sent", [b"GET /quick HTTP/1.1\r\nHost: he", b"GET", b"POST /a HTTP/1.1\r\n"]
)
def test_headers_that_never_end_are_given_up(sent: bytes) -> None:
    async def scenario() -> None:
        async with serving(headers=MOMENT) as served:
            reader, _ = await served.open(sent)
            assert (await everything(reader)).startswith(b"HTTP/1.1 408 ")
            await served.until(0)
            assert served.closed == {"slow_headers": 1}
            assert not served.bodies

    run(scenario)


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
def test_a_connection_that_sends_no_request_is_closed(sent: bytes) -> None:
    async def scenario() -> None:
        async with serving(headers=MOMENT) as served:
            reader, _ = await served.open(sent)
            assert await everything(reader) == b""
            await served.until(0)

    run(scenario)


@pytest.mark.parametrize("sent", [b"\r\n", b"GET /quick"])
def test_what_follows_an_answer_does_not_keep_a_connection_open_for_ever(sent: bytes) -> None:
    async def scenario() -> None:
        async with serving(headers=10 * MOMENT) as served:
            reader, writer = await served.open(ASK)
            await reader.readuntil(b"ok")
            writer.write(sent)
            await everything(reader)
            await served.until(0)

    run(scenario)


def test_the_rest_of_an_upload_that_was_answered_has_the_time_of_headers() -> None:
    async def scenario() -> None:
        async with serving(headers=MOMENT) as served:
            reader, writer = await served.open(b"POST /a HTTP/1.1\r\nContent-Length: 99\r\n\r\n")
            await reader.readuntil(b"ok")
            writer.write(b"x")
            assert await everything(reader) == b""
            await served.until(0)

    run(scenario)


def test_an_upload_that_ends_after_its_answer_leaves_the_connection_open_for_another() -> None:
    async def scenario() -> None:
        async with serving() as served:
            reader, writer = await served.open(b"POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\n")
            await reader.readuntil(b"ok")
            writer.write(b"xx" + ASK)
            await reader.readuntil(b"ok")
            assert served.bodies == {"/a": 1, "/quick": 1}
            assert len(served.limits) == 1

    run(scenario)


def test_a_connection_without_requests_is_closed_after_its_time_whatever_came_last() -> None:
    async def scenario() -> None:
        async with serving(kept=MOMENT) as served:
            reader, writer = await served.open(b"POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\n")
            await reader.readuntil(b"ok")
            with contextlib.suppress(ConnectionError):
                writer.write(b"xx")
            await everything(reader)
            await served.until(0)

    run(scenario)


MANY = b"".join(b"h%d: v\r\n" % number for number in range(HEADERS + 1))
TOO_MUCH = {
    "one complete": b"a: " + b"x" * HEADER_BYTES + b"\r\n\r\n",
    "an address": b"",
    "many": MANY + b"\r\n",
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_headers_over_a_limit_are_refused(what: str) -> None:
    async def scenario() -> None:
        async with serving() as served:
            target = b"x" * HEADER_BYTES if what == "an address" else b""
            request = b"GET /%b HTTP/1.1\r\nHost: a\r\n" % target + TOO_MUCH[what] + b"\r\n"
            reader, _ = await served.open(request)
            assert (await everything(reader)).startswith(b"HTTP/1.1 431 ")
            await served.until(0)
            assert served.closed == {"large_headers": 1}
            assert not served.bodies

    run(scenario)


def test_a_header_without_an_end_is_not_collected() -> None:
    async def scenario() -> None:
        async with serving() as served:
            reader, writer = await served.open(b"GET / HTTP/1.1\r\nendless: ")
            sent, part = 0, b"x" * 2**16
            # Far more than the limit and what lies in the buffers of both sockets.
            with contextlib.suppress(ConnectionError):
                while sent < 2**28:
                    writer.write(part)
                    await writer.drain()
                    sent += len(part)
            assert sent < 2**28
            await everything(reader)
            await served.until(0)
            assert served.closed == {"large_headers": 1}

    run(scenario)


def test_as_many_and_as_large_headers_as_allowed_are_served_one_request_after_another() -> None:
    async def scenario() -> None:
        async with serving() as served:
            lines = b"".join(b"h%d: %b\r\n" % (number, b"v" * 250) for number in range(HEADERS))
            reader, writer = await served.open()
            for _ in range(3):
                writer.write(b"GET /quick HTTP/1.1\r\n" + lines + b"\r\n")
                await reader.readuntil(b"ok")
            writer.write(2 * ASK)  # without waiting for the first answer
            await reader.readuntil(b"ok")
            await reader.readuntil(b"ok")
            assert not served.closed
            assert not any(served.crowded)

    run(scenario)


def test_the_longest_idle_make_room_first_those_that_never_asked() -> None:
    async def scenario() -> None:
        async with serving(most=2) as served:
            kept, _ = await served.open(ASK)
            await kept.readuntil(b"ok")
            silent, _ = await served.open()
            await served.until(2)
            first, _ = await served.open(ASK)
            await first.readuntil(b"ok")
            assert await everything(silent) == b""
            second, _ = await served.open(ASK)
            await second.readuntil(b"ok")
            assert await everything(kept) == b""
            assert served.closed == {"crowded": 2}
            assert not any(served.crowded)

    run(scenario)


def test_where_all_are_busy_some_more_are_marked_and_closed_after_one_answer_others_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with serving(most=2) as served:
            for _ in range(2):
                await served.open(ASK.replace(b"quick", b"slow"))
            await until(lambda: served.bodies["/slow"] == 2)
            reader, _ = await served.open(ASK)
            assert b"connection: close" in await everything(reader)
            assert served.crowded == [False, False, True]
            await served.until(2)
            for _ in range(RESERVE):
                await served.open(ASK.replace(b"quick", b"slow"))
            await until(lambda: served.bodies["/slow"] == 2 + RESERVE)
            reader, _ = await served.open(ASK)
            assert await everything(reader) == b""

    run(scenario)
    assert len([r for r in caplog.records if "AGIQA_MAX_CONNECTIONS" in r.getMessage()]) == 1


def test_whoever_does_not_read_the_answer_is_cut_off() -> None:
    async def scenario() -> None:
        async with serving(reading=MOMENT) as served:
            with socket.create_connection(("127.0.0.1", served.port)) as connection:
                connection.setblocking(False)
                await asyncio.get_running_loop().sock_sendall(
                    connection, ASK.replace(b"quick", b"large")
                )
                await served.until(1)
                await served.until(0)
            assert served.closed == {"slow_reader": 1}

    run(scenario)


def test_an_upgrade_to_what_there_is_not_is_an_ordinary_request_and_no_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)

    async def scenario() -> None:
        async with serving() as served:
            upgrade = b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
            reader, _ = await served.open(ASK[:-4] + upgrade)
            await reader.readuntil(b"ok")

    run(scenario)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_nothing_is_taken_of_a_large_body_that_nobody_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[int] = []
    received = LimitedProtocol.data_received

    def count(protocol: LimitedProtocol, data: bytes) -> None:
        taken.append(len(data))
        received(protocol, data)

    monkeypatch.setattr(LimitedProtocol, "data_received", count)

    async def test() -> None:
        async with serving() as served:
            head = b"POST /slow HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n"
            size = 2**20
            reader, writer = await served.open(head % size)
            await until(lambda: served.bodies["/slow"] == 1)
            writer.write(b"x" * size)
            await asyncio.sleep(MOMENT)
            assert sum(taken) == len(head % size)
            served.release.set()  # answered unread: the connection is kept, and the rest is read
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            await until(lambda: sum(taken) == len(head % size) + size)
            writer.write(ASK)
            await until(lambda: served.bodies["/quick"] == 1)

    run(test)


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
