"""Requests that come while the worker is down, where nobody in front would send them elsewhere."""

import asyncio
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.batching.admission import Admission, State
from app.batching.errors import BadField
from app.http.request_state import allowed_seconds, state_of

_LOOK_SECONDS = 0.02


class UntilUp:
    """Holds them until there is a worker again, within their time; then they are answered as they
    are without it. Pure ASGI.
    """

    def __init__(self, app: ASGIApp, admission: Admission, most: float) -> None:
        """``most``: seconds that a request may take."""
        self.app = app
        self.admission = admission
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] == "http" and scope["method"] == "POST" and self._is_down:
            end = state_of(scope).started + self._allowed(scope)
            while self._is_down and time.monotonic() < end:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(_LOOK_SECONDS)
        await self.app(scope, receive, send)

    @property
    def _is_down(self) -> bool:
        return self.admission.state is State.WORKER_DOWN

    def _allowed(self, scope: Scope) -> float:
        try:
            return allowed_seconds(Headers(scope=scope), self._most)
        except BadField:  # which the endpoint says
            return 0.0
