"""HTTP/1.1 as a load generator speaks it: one parser in C, no copies of bodies, connections that
are kept, and a body that is not sent on once its answer has come.
"""

import asyncio
import re
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httptools

from benchmarks.drills.load.mix import Request

# Little stands between the sender and a server that does not read: what is sent was taken.
_SEND_BUFFER = 128 * 1024
_PIECE = 256 * 1024
_MOST_OPEN = 8000
_CODE = re.compile(rb'"code": ?"(\w+)"')
_SCORED = re.compile(rb'"quality":')


@dataclass(slots=True)
class Exchange:
    """A request and what came of it, in seconds of the monotonic clock.

    Attributes:
        stream: which of a load's streams it belongs to.
        due: when it was to be sent, whenever it was.
        sent: when it was begun.
        done: when the whole answer was there.
        status: 0: there was none.
        code: of the problem; of the first one among a batch call's items.
        retry_after: seconds, of a refusal.
        body_sent: bytes of the body that had left when the answer came.
        scores: images that got one.
        images: that were sent.
        retries: connections that were closed before the request was seen.
    """

    stream: str
    due: float
    images: int = 1
    sent: float = 0.0
    done: float = 0.0
    status: int = 0
    code: str = ""
    retry_after: int | None = None
    body_sent: int = 0
    scores: int = 0
    retries: int = 0

    @property
    def seconds(self) -> float:
        """From when it was due."""
        return self.done - self.due


Done = Callable[[Exchange], None]


class Pool:
    """Connections to one server; as many as there are requests under way."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._host = address.hostname or ""
        self._port = address.port or 80
        self._idle: list[_Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.open: set[_Connection] = set()
        self.unasked = 0  # answers to nothing

    def send(self, request: Request, exchange: Exchange, done: Done) -> None:
        """Sends it now; ``done`` hears once of its end."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closing:
                connection.send(request, exchange, done)
                return
        self._connect(request, exchange, done)

    def keep(self, connection: "_Connection") -> None:
        """For another request."""
        self._idle.append(connection)

    def lost(self, connection: "_Connection") -> None:
        """It is closed."""
        self.open.discard(connection)

    def again(self, request: Request, exchange: Exchange, done: Done) -> None:
        """On a fresh connection: the kept one was closed before the request was seen."""
        exchange.retries += 1
        self._connect(request, exchange, done)

    def close(self, why: str) -> None:
        """Ends all; requests without an answer are done, without one."""
        for task in self._tasks:
            task.cancel()
        for connection in list(self.open):
            connection.fail(why)

    def _connect(self, request: Request, exchange: Exchange, done: Done) -> None:
        task = asyncio.get_running_loop().create_task(self._opened(request, exchange, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _opened(self, request: Request, exchange: Exchange, done: Done) -> None:
        try:
            if len(self.open) >= _MOST_OPEN:
                raise OSError("the generator has no connections left")
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(
                lambda: _Connection(self), self._host, self._port
            )
        except (OSError, asyncio.CancelledError) as error:
            exchange.sent = exchange.done = time.monotonic()
            exchange.code = type(error).__name__
            done(exchange)
            return
        connection.send(request, exchange, done)


class _Connection(asyncio.Protocol):
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._is_paused = False
        self._is_used = False
        self._unsent: deque[memoryview] = deque()
        self._written = 0
        self._under_way: tuple[Request, Exchange, Done] | None = None
        self._answer = bytearray()
        self._retry_after: int | None = None
        self._has_begun = False

    @property
    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(0)
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER
        )
        self._pool.open.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._pool.lost(self)
        self._end("cut off" if self._has_begun else "closed without an answer")

    def send(self, request: Request, exchange: Exchange, done: Done) -> None:
        """Begins a request; the one before it is answered."""
        exchange.sent = time.monotonic()
        self._under_way = (request, exchange, done)
        self._written = 0
        self._unsent.clear()
        pending = b""
        for part in request.parts:
            if len(part) < _PIECE:
                pending += part
                continue
            self._unsent.extend((memoryview(pending), memoryview(part)))
            pending = b""
        self._unsent.append(memoryview(pending))
        self._go_on()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._go_on()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.fail("no HTTP")

    def on_message_begin(self) -> None:
        """The first byte of an answer."""
        self._has_begun = True
        self._answer.clear()
        self._retry_after = None
        if self._under_way is None:
            self._pool.unasked += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header of it."""
        if name.lower() == b"retry-after" and value.isdigit():
            self._retry_after = int(value)

    def on_body(self, data: bytes) -> None:
        """A piece of its body."""
        self._answer += data

    def on_message_complete(self) -> None:
        """The answer is there, whether the body was sent or not."""
        status = self._parser.get_status_code()
        is_whole = not self._unsent and not self._transport.get_write_buffer_size()
        is_kept = is_whole and self._parser.should_keep_alive()
        self._finish(status)
        if is_kept and not self.is_closing:
            self._is_used = True
            self._pool.keep(self)
        else:
            self._transport.abort()

    def fail(self, why: str) -> None:
        """Gives it up, and what is under way."""
        self._is_used = False
        self._end(why)
        self._transport.abort()

    def _go_on(self) -> None:
        while self._unsent and not self._is_paused and not self.is_closing:
            piece = self._unsent[0][:_PIECE]
            rest = self._unsent[0][_PIECE:]
            if rest:
                self._unsent[0] = rest
            else:
                self._unsent.popleft()
            self._written += len(piece)
            self._transport.write(piece)

    def _finish(self, status: int) -> None:
        if self._under_way is None:
            return
        request, exchange, done = self._under_way
        self._under_way = None
        self._has_begun = False
        exchange.done = time.monotonic()
        exchange.status = status
        exchange.retry_after = self._retry_after
        left = self._transport.get_write_buffer_size()
        exchange.body_sent = max(0, self._written - left - request.head)
        if status == 200:
            exchange.scores = len(_SCORED.findall(self._answer))
        if status != 200 or exchange.images > 1:
            found = _CODE.search(self._answer)
            exchange.code = found[1].decode() if found else ""
        done(exchange)

    def _end(self, why: str) -> None:
        if self._under_way is None:
            return
        request, exchange, done = self._under_way
        if self._is_used and not self._has_begun and not exchange.retries:
            self._under_way = None
            self._pool.again(request, exchange, done)
            return
        self._retry_after = None
        exchange.code = why
        self._finish_without_answer(exchange, done)

    def _finish_without_answer(self, exchange: Exchange, done: Done) -> None:
        self._under_way = None
        exchange.done = time.monotonic()
        done(exchange)
