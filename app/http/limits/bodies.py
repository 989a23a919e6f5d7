"""What a request's body may take: bytes, of its own and together with all others, and time. Pure
ASGI.
"""

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.batching.admission import Admission, State
from app.batching.errors import (
    ClientGone,
    Draining,
    Overloaded,
    ServiceError,
    SlowBody,
    TooLarge,
)
from app.http.problems import answer
from app.http.request_state import BATCH, RequestState, allowed_seconds, state_of
from app.settings import Settings

# Headers of the multipart form around the images.
_FORM_SLACK = 64 * 1024
_SINGLES = frozenset({"/score", "/score-agi"})
SCORING = _SINGLES | {path + BATCH for path in _SINGLES}


class BodyBudget:
    """The bytes of all bodies that are being read or served."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0

    def take(self, size: int) -> None:
        """Reserves room.

        Raises:
            Overloaded: there is not enough.
        """
        if self.bytes + size > self.limit:
            raise Overloaded(
                "The service holds as many uploads as it may; try again after the seconds that "
                "Retry-After gives."
            )
        self.bytes += size

    def give_back(self, size: int) -> None:
        """Room is free again."""
        self.bytes -= size


def announced(headers: Headers) -> int:
    """Bytes of a body, where its length is given."""
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0


class Room:
    """What a body may have, and whether there is room for it: known from its headers."""

    def __init__(self, admission: Admission, settings: Settings) -> None:
        self._admission = admission
        self._settings = settings

    def most(self, path: str) -> int:
        """Bytes of one body."""
        is_batch = path.endswith(BATCH)
        settings = self._settings
        return (settings.max_body_bytes if is_batch else settings.max_image_bytes) + _FORM_SLACK

    def require(self, state: RequestState, headers: Headers) -> None:
        """Takes a place for a request that is to be scored, unless it has one.

        Raises:
            Overloaded: admission would refuse it when its body is there: so why read it.
            BadField: a header can't be used.
        """
        if state.place:
            return
        sender = state.sender(headers)
        deadline = state.started + allowed_seconds(headers, self._settings.deadline_seconds)
        state.place = self._admission.at_the_door(
            deadline,
            sender,
            single=state.path in _SINGLES,
            size=announced(headers),
        )


class Bodies:
    """Refuses before it is read a body that is too large, for which there is no room, or whose
    answer would be late; and while it is read what takes too long.
    """

    def __init__(
        self, app: ASGIApp, admission: Admission, settings: Settings, budget: BodyBudget
    ) -> None:
        self.app = app
        self._admission = admission
        self._settings = settings
        self._budget = budget
        self._room = Room(admission, settings)
        # The largest fits into an empty service, whatever the settings.
        largest = max(settings.max_image_bytes, settings.max_body_bytes) + _FORM_SLACK
        budget.limit = max(budget.limit, largest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request pass, or answers it with a problem."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = state_of(scope)
        most = self._room.most(state.path)
        body = _Body(state, receive, most, self._budget, self._admission)
        body.limit_time(self._settings.body_seconds)
        try:
            headers = Headers(scope=scope)
            body.announce(headers.get("content-length") or "0")
            if scope["method"] == "POST" and state.path in SCORING:
                self._room.require(state, headers)
        except ServiceError as refusal:
            body.close()
            state.fail(refusal)
            await answer(refusal)(scope, receive, send)
            return
        try:
            await self.app(scope, body.receive, send)
        finally:
            body.close()


class _Body:
    """Counts a body's bytes as they come, and notices clients that hang up before its end, that
    trickle, or that are not done when the service is shut down.
    """

    def __init__(
        self,
        state: RequestState,
        receive: Receive,
        limit: int,
        budget: BodyBudget,
        admission: Admission,
    ) -> None:
        self._state = state
        self._receive = receive
        self._limit = limit
        self._budget = budget
        self._admission = admission
        self._held = 0
        self._until: float | None = None

    def limit_time(self, seconds: float) -> None:
        """The whole body is to be there that many seconds from now."""
        self._until = asyncio.get_running_loop().time() + seconds

    def announce(self, length: str) -> None:
        """Takes room for the length that the client has named."""
        if not length.isdecimal() or int(length) > self._limit:
            raise _too_large(self._limit)
        self._take(int(length))

    def close(self) -> None:
        """Gives the room back."""
        self._budget.give_back(self._held)
        self._held = 0

    async def receive(self) -> Message:
        """The next message.

        Raises:
            ServiceError: no more of the body is taken.
        """
        try:
            message = await self._next()
            self._state.body_bytes += len(message.get("body", b""))
            if self._admission.state is State.DRAINING and message.get("more_body"):
                raise Draining  # it would be refused when it is there; why wait for it
            if self._state.body_bytes > self._limit:
                raise _too_large(self._limit)
            self._take(self._state.body_bytes - self._held)
        except ServiceError as refusal:
            # The form parser turns every error into one of its own.
            self._state.refusal = refusal
            raise
        if message["type"] == "http.disconnect":
            self._state.refusal = ClientGone()
        return message

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise SlowBody from None
        if not message.get("more_body", False):
            self._until = None  # from now on only its end is waited for
        return message

    def _take(self, size: int) -> None:
        if size > 0:
            self._budget.take(size)
            self._held += size


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"The upload is over {(limit - _FORM_SLACK) / 2**20:g} MiB; send smaller or fewer images."
    )
