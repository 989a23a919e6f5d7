"""Bodies that are answered before they are read: they are left unread, and the answer arrives. Pure
ASGI.
"""

import asyncio
import contextlib
import math

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.batching.admission import Admission, State

# How long the connection of a client that is still sending stays open behind its answer. Closed at
# once it would be reset, and that can overtake the answer. With what the service waits before it
# cancels this ends before the server cuts connections.
LINGER_SECONDS = 0.3
# What is read of the rest of a body; for so little no connection is given up.
READ_BYTES = 256 * 1024


class Unread:
    """Closes the connection behind an answer to a body of which much has not been read."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self.app = app
        self.admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(_announced(Headers(scope=scope)), receive, send, self.admission)
        await self.app(scope, exchange.receive, exchange.send)
        await exchange.finish()


def _announced(headers: Headers) -> float:
    """Bytes of the body."""
    if "transfer-encoding" in headers:
        return math.inf
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0


class _Exchange:
    """A request's messages, and how much of its body is still to come."""

    def __init__(self, rest: float, receive: Receive, send: Send, admission: Admission) -> None:
        self._rest = rest
        self._receive = receive
        self._send = send
        self._admission = admission
        self._closes = False
        self._lingers = False
        self._is_begun = False

    async def receive(self) -> Message:
        self._is_begun = True
        message = await self._receive()
        self._rest -= len(message.get("body", b""))
        if not message.get("more_body", False):
            self._rest = 0
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if self._rest > READ_BYTES:
                headers["Connection"] = "close"
            self._closes = headers.get("connection") == "close"
        elif not message.get("more_body", False) and self._rest and self._is_last():
            # The server closes the connection behind the last message.
            self._lingers = True
            message = {**message, "more_body": True}
        await self._send(message)

    async def finish(self) -> None:
        """Sends the end, when the client has had the time to see the answer."""
        if not self._lingers:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                if self._is_begun:  # a body that nobody has begun to read stays unread
                    await self._discard(READ_BYTES)
                if self._rest:
                    await asyncio.Event().wait()
        await self._send({"type": "http.response.body", "body": b""})

    def _is_last(self) -> bool:
        """Whether no other request will come on the connection."""
        return self._closes or self._admission.state is State.DRAINING

    async def _discard(self, size: int) -> None:
        while self._rest and size > 0:
            size -= len((await self.receive()).get("body", b""))
