"""The end of the service as its clients see it: nobody is cut off without an answer. Pure ASGI."""

import asyncio
import contextlib
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.batching.admission import Admission, State
from app.batching.errors import Draining
from app.http.problems import answer
from app.http.request_state import state_of

# For a client that is still sending when it is answered: how long the rest of its body is read.
# With what the service waits before it cancels this ends before the server cuts connections.
LINGER_SECONDS = 0.3


class UntilDrained:
    """Keeps the tasks of the requests under way, for the service to cancel when the drain is over;
    one that is cancelled then gets 503 ``draining``.
    """

    def __init__(
        self, app: ASGIApp, admission: Admission, serving: "set[asyncio.Task[Any]]"
    ) -> None:
        self.app = app
        self.admission = admission
        self.serving = serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, and answers it if nothing else does before the end."""
        task = asyncio.current_task()
        if scope["type"] != "http" or task is None:
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(receive, send, self.admission)
        self.serving.add(task)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            if exchange.is_answered or self.admission.state is not State.DRAINING:
                raise
            task.uncancel()
            refusal = Draining()
            state_of(scope).fail(refusal)
            await answer(refusal)(scope, exchange.receive, exchange.send)
        finally:
            self.serving.discard(task)


class _Exchange:
    """A request's messages, and how far they have come."""

    def __init__(self, receive: Receive, send: Send, admission: Admission) -> None:
        self._receive = receive
        self._send = send
        self._admission = admission
        self._is_read = False
        self.is_answered = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._is_read = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        self.is_answered = True
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if is_last and not self._is_read and self._admission.state is State.DRAINING:
            # The server closes the connection behind the last message. What the client is still
            # sending would then be answered with a reset, and that can overtake the answer.
            await self._send({**message, "more_body": True})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    while not self._is_read:
                        await self.receive()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)
