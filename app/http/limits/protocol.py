"""What HTTP leaves open and uvicorn does not bound: how long headers and connections may take, and
how large headers may be.
"""

import asyncio
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.http.limits.connections import Connections
from app.http.limits.gathering import Gathering, Refuses
from app.http.limits.unread import LINGER_SECONDS, READ_BYTES
from app.http.limits.whole import WholeAnswers

HEADER_BYTES = 32 * 1024
HEADERS = 100
# Of a body that comes, so much is handed over at once, or all that is left of it. Each piece costs
# its way through everything around the endpoint, and one that the kernel hands over is 250 kB.
PIECE_BYTES = 2**20
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,19})\r\n", re.IGNORECASE)
_HEAD_BYTES = 4096  # in which that is likely to stand
CROWDED = "crowded"


class HeadersTooLarge(Exception):
    """The headers of a request are over a limit."""


class _Timer:
    """Calls ``late`` when what was awaited does not come in time."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, late: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._seconds = seconds
        self._late = late
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins to wait, unless it waits already."""
        if self._handle is None:
            self._handle = self._loop.call_later(self._seconds, self._fire)

    def stop(self) -> None:
        """It has come."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        self._late()


class Answers(Refuses, Protocol):
    """Who answers requests before they reach the application."""

    def refusal(self, scope: Scope) -> Response | None:
        """The answer, if there is one already; None: the application gives it."""


class _Answered:
    """In place of the cycle of a request that never was one."""

    response_started = response_complete = True
    message_event = asyncio.Event()  # nobody waits for it


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's own, with limits, and a door before the application."""

    def __init__(
        self,
        *arguments: Any,
        limits: Connections,
        door: Answers | None = None,
        gathering: Gathering | None = None,
        **named: Any,
    ) -> None:
        """``gathering``: where requests wait for others, that come while the door refuses."""
        super().__init__(*arguments, **named)
        self._limits = limits
        self._door = door
        self._gathering = gathering
        self._unseen: list[bytes] = []
        self._lingering: asyncio.TimerHandle | None = None
        self._headers_due = _Timer(self.loop, limits.header_seconds, self._headers_are_late)
        self._reading_due = _Timer(self.loop, limits.read_seconds, self._reading_is_late)
        self._is_in_headers = False
        self._is_announced = False
        self._is_crowded = False
        self._bytes_of_headers = 0
        self._bytes_fed = 0
        self._status = HTTPStatus.BAD_REQUEST

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the time of its first headers."""
        self._answers = WholeAnswers(transport)
        super().connection_made(self._answers)
        if not self._limits.add(self):
            self.transport.abort()
            return
        self._is_crowded = self._limits.is_crowded
        self._headers_due.start()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unseen.clear()
        self._limits.remove(self)
        self._headers_due.stop()
        self._reading_due.stop()
        if self._lingering:
            self._lingering.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes what has come. A request that is likely to be refused waits for others."""
        if self._unseen:
            self._unseen.append(data)
            self.flow.pause_reading()
        elif gathering := self._company(data):
            self._headers_due.stop()
            self._unset_keepalive_if_required()
            self._unseen.append(data)
            gathering.add(self)
        else:
            self._parse(data)

    def look(self) -> None:
        """Parses what has come meanwhile."""
        unseen, self._unseen = self._unseen, []
        if not unseen or self.transport.is_closing():
            return
        self.flow.resume_reading()
        for data in unseen:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        """No more of headers than they may have."""
        was_in_headers = self._is_in_headers
        if self._is_answered():
            self._headers_due.start()
        super().data_received(data)
        if was_in_headers and self._is_in_headers and not self.transport.is_closing():
            # httptools hands over a header when it is complete, and one may never be.
            self._bytes_fed += len(data)
            if self._bytes_fed > HEADER_BYTES:
                self._status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                self.send_400_response("")

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self.scope["state"][CROWDED] = self._is_crowded
        self._is_in_headers = True
        self._bytes_of_headers = 0
        self._bytes_fed = 0
        self._headers_due.start()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        """The request begins."""
        self._is_in_headers = False
        self._headers_due.stop()
        self._limits.serves(self)
        self._is_announced = self._announced() > 0
        if self._lingering or (self._door and self._is_refused(self._door)):
            return
        super().on_headers_complete()
        if self._is_crowded:
            self.cycle.keep_alive = False
        if self._announced() > READ_BYTES:
            # Until somebody wants it: of a body that is refused unread nothing is taken in.
            self.flow.pause_reading()

    def on_body(self, body: bytes) -> None:
        """A piece of its body. Who reads it is woken for the last one, or when much is there; of a
        body without a length, which is counted only when it is handed over, as soon as some is.
        """
        cycle = self.cycle
        if not self._is_announced or cycle.response_complete:
            super().on_body(body)
            return
        cycle.body += body
        if len(cycle.body) >= PIECE_BYTES:
            self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Its body is there; where it was answered before that, the next request is due."""
        super().on_message_complete()
        if self._is_answered() and not self.transport.is_closing():
            self._headers_due.stop()
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        self._answers.flush()  # of an answer without a body
        super().on_response_complete()
        if self.transport.is_closing():
            self._reading_due.start()  # of what is not sent yet
        elif self._is_answered():
            self._limits.waits(self)

    def _is_refused(self, door: Answers) -> bool:
        """Whether the door has answered the request whose headers are complete. It is not asked
        where anything is out of the ordinary.
        """
        path = self.url.partition(b"?")[0]
        if (
            path not in door.paths
            or self.parser.get_method() != b"POST"
            or not self.parser.should_keep_alive()
            or self.parser.should_upgrade()
            or self._is_crowded
            or not self._is_answered()
            or self.flow.write_paused
            or not any(name == b"content-length" for name, _ in self.headers)
        ):
            return False
        self.scope["method"] = "POST"
        self.scope["path"] = self.root_path + path.decode("ascii")
        response = door.refusal(self.scope)  # type: ignore[arg-type]
        if response is None:
            return False
        self.cycle = _Answered()  # type: ignore[assignment]
        is_left_unread = self._announced() > READ_BYTES
        self._write(response, closes=is_left_unread)
        if is_left_unread:
            self.flow.pause_reading()
            self._lingering = self.loop.call_later(LINGER_SECONDS, self._linger_no_more)
        else:
            self.on_response_complete()
        return True

    def _write(self, response: Response, *, closes: bool) -> None:
        parts = [STATUS_LINE[response.status_code]]
        for name, value in (*self.server_state.default_headers, *response.raw_headers):
            parts += [name, b": ", value, b"\r\n"]
        parts += [b"connection: close\r\n" if closes else b"", b"\r\n", bytes(response.body)]
        self.transport.write(b"".join(parts))

    def _linger_no_more(self) -> None:
        """Whoever was refused while it sends has had the time to see its answer."""
        self.transport.close()
        self.on_response_complete()

    def shutdown(self) -> None:
        """Takes no other request on it than one that is there."""
        self.look()
        if not self._lingering:
            super().shutdown()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answers.begin()
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no HTTP, or too much of it, unless another answer is under way."""
        if not self._is_answered() and self.cycle.response_started:
            self.transport.abort()
            return
        if self._status is HTTPStatus.BAD_REQUEST:
            super().send_400_response(msg)
        else:
            self._refuse(self._status)
            self._limits.closed("large_headers")
        self._reading_due.start()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading_due.start()

    def resume_writing(self) -> None:
        self._reading_due.stop()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Ends it even if the last answer is still unread: that had its time."""
        self.transport.abort()

    def _unsupported_upgrade_warning(self) -> None:
        """There are no websockets here; a stranger's header is nothing for the log."""

    def _company(self, data: bytes) -> Gathering | None:
        """Where it waits for others, if it is the beginning of a request that may: not one with a
        large body, since the longer it waits the more of that is sent in vain.
        """
        if (
            self._gathering is None
            or not self._is_answered()
            or self._is_in_headers
            or self._lingering
            or not self._gathering.wants(data)
        ):
            return None
        length = _LENGTH.search(data, 0, _HEAD_BYTES)
        return self._gathering if length and int(length[1]) <= READ_BYTES else None

    def _is_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _announced(self) -> int:
        """Bytes of the body, as far as its length is given."""
        length = next((value for name, value in self.headers if name == b"content-length"), b"")
        return int(length) if length.isdigit() and len(length) < 20 else 0

    def _count(self, size: int) -> None:
        self._bytes_of_headers += size
        if self._bytes_of_headers > HEADER_BYTES or len(self.headers) > HEADERS:
            self._status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise HeadersTooLarge

    def _refuse(self, status: HTTPStatus) -> None:
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        self.transport.write(
            f"{head}content-length: 0\r\nconnection: close\r\n\r\n".encode("ascii"),
        )
        self.transport.close()

    def _headers_are_late(self) -> None:
        if self.transport.is_closing():
            return
        self._limits.closed("slow_headers")
        if not self._is_answered():  # those of the next request, behind one that is being served
            self.cycle.keep_alive = False
        elif self._is_in_headers:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
            self._reading_due.start()
        else:
            self.transport.abort()

    def _reading_is_late(self) -> None:
        self._limits.closed("slow_reader")
        self.transport.abort()
