"""The end of the service as its clients see it: nobody is cut off without an answer. Pure ASGI."""

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.batching.admission import Admission, State
from app.batching.errors import Draining
from app.http.problems import answer
from app.http.request_state import state_of


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
        is_answered = False

        async def send_noted(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        self.serving.add(task)
        try:
            await self.app(scope, receive, send_noted)
        except asyncio.CancelledError:
            if is_answered or self.admission.state is not State.DRAINING:
                raise
            task.uncancel()
            refusal = Draining()
            state_of(scope).fail(refusal)
            await answer(refusal)(scope, receive, send)
        finally:
            self.serving.discard(task)
