"""The limits that uvicorn does not have, on connections of this machine."""

import asyncio
import contextlib
import logging
import socket

import pytest

from app.http.limits.connections import RESERVE
from app.http.limits.protocol import HEADER_BYTES, HEADERS, PIECE_BYTES, LimitedProtocol
from tests.app.fake_device import run, until
from tests.app.http.limits.connected import ASK, MOMENT, everything, serving


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


def test_a_body_is_handed_over_in_few_pieces_of_which_no_byte_is_lost() -> None:
    async def scenario() -> None:
        async with serving() as served:
            head = b"POST /read HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n"
            size = 5 * PIECE_BYTES + 7
            reader, writer = await served.open(head % size + bytes(size) + head % 3)
            await reader.readuntil(b"ok")
            assert sum(served.pieces) == size
            assert len(served.pieces) <= 6
            del served.pieces[:]
            # Whoever sends it byte by byte wakes nobody before its end.
            for _ in range(3):
                writer.write(b"x")
                await asyncio.sleep(MOMENT)
            await reader.readuntil(b"ok")
            assert served.pieces == [3]

    run(scenario)


def test_of_a_body_without_a_length_little_is_held_before_it_is_handed_over() -> None:
    async def scenario() -> None:
        async with serving() as served:
            head = b"POST /read HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
            reader, writer = await served.open(head + b"2\r\nab\r\n")
            await until(lambda: served.pieces == [2])  # at once: what is not counted is not held
            writer.write(b"2\r\nab\r\n" * PIECE_BYTES + b"0\r\n\r\n")
            await reader.readuntil(b"ok")
            assert sum(served.pieces) == 2 + 2 * PIECE_BYTES
            # What one reading of the kernel's may hold, and what was held before it.
            assert max(served.pieces) < PIECE_BYTES // 2

    run(scenario)
