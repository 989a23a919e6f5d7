"""Around every request: its id, its log line, its metrics, the key, and the limit on its body. Pure
ASGI.
"""

import hmac
import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.admission import Admission
from app.errors import ClientGone, Internal, ServiceError, TooLarge, Unauthorized
from app.logs import request_id
from app.metrics import ENDPOINTS, Metrics
from app.problems import answer

logger = logging.getLogger("agiqa.access")

_GOOD_ID = re.compile(r"[\w.:/+=-]{1,128}")
# Headers of the multipart form around the images.
_FORM_SLACK = 64 * 1024


class RequestContext:
    """Request id, access log and metrics. Outermost, so that every answer carries its id and is
    counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        wanted = Headers(scope=scope).get("x-request-id", "")
        current = wanted if _GOOD_ID.fullmatch(wanted) else uuid.uuid4().hex
        token = request_id.set(current)
        scope["started"], status, started = time.monotonic(), 500, False

        async def send_with_id(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                MutableHeaders(scope=message)["X-Request-ID"] = current
            await send(message)

        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            logger.exception("unforeseen error")
            scope["failure"] = Internal.reason
            if not started:
                await answer(Internal())(scope, receive, send_with_id)
        finally:
            self.metrics.in_flight.dec()
            self._record(scope, status)
            request_id.reset(token)

    def _record(self, scope: Scope, status: int) -> None:
        seconds = time.monotonic() - scope["started"]
        path: str = scope["path"]
        endpoint = path if path in ENDPOINTS else "other"
        self.metrics.requests.labels(endpoint, str(status)).inc()
        self.metrics.duration.labels(endpoint).observe(seconds)
        if "failure" in scope:
            self.metrics.failures.labels(scope["failure"]).inc()
        level = logging.INFO if endpoint != "other" else logging.DEBUG
        fields = {
            "method": scope["method"],
            "path": path,
            "status": status,
            "seconds": round(seconds, 4),
        }
        logger.log(level, "%s %s %s", scope["method"], path, status, extra=fields)


class Gate:
    """Refuses before the body is read: no key, a body over the limit, or a service that takes no
    requests now.
    """

    def __init__(
        self, app: ASGIApp, door: Admission, keys: tuple[str, ...], single: int, several: int
    ) -> None:
        """``single`` and ``several``: most bytes of a body with one image, and with many."""
        self.app, self.door = app, door
        self._keys = [key.encode() for key in keys]
        self._single, self._several = single + _FORM_SLACK, several + _FORM_SLACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request pass, or answers it with a problem."""
        if scope["type"] != "http" or scope["path"] not in ENDPOINTS:
            await self.app(scope, receive, send)
            return
        limit = self._several if scope["path"].endswith("/batch") else self._single
        try:
            headers = Headers(scope=scope)
            self._check_key(headers)
            if scope["method"] == "POST":
                self.door.require_open()
                if int(headers.get("content-length") or 0) > limit:
                    raise _too_large(limit)
        except (ServiceError, ValueError) as error:
            refusal = error if isinstance(error, ServiceError) else _too_large(limit)
            scope["failure"] = refusal.reason
            await answer(refusal)(scope, receive, send)
            return
        await self.app(scope, _limited(scope, receive, limit), send)

    def _check_key(self, headers: Headers) -> None:
        if not self._keys:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        known = [hmac.compare_digest(given.strip().encode(), key) for key in self._keys]
        if scheme.lower() != "bearer" or not any(known):
            raise Unauthorized


def _limited(scope: Scope, receive: Receive, limit: int) -> Receive:
    """Counts the body's bytes as they come, for clients that don't say its length beforehand, and
    notices those that hang up before its end.

    The refusal is left in the scope too: the form parser turns every error into one of its own.
    """
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            scope["refusal"] = _too_large(limit)
            raise scope["refusal"]
        if message["type"] == "http.disconnect":
            scope["refusal"] = ClientGone()
        return message

    return counted


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"The upload is over {(limit - _FORM_SLACK) / 2**20:g} MiB; send smaller or fewer images."
    )
