"""Around every request: its id, its log line, its metrics, and the key. Pure ASGI."""

import asyncio
import logging
import random
import re
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from app.batching.admission import Admission
from app.batching.errors import (
    BadPath,
    ClientGone,
    Forbidden,
    Internal,
    Overloaded,
    ServiceError,
)
from app.http.keys import Keys
from app.http.limits.protocol import CROWDED
from app.http.origin import Hosts, Origins
from app.http.probes import LIVE, READY
from app.http.problems import answer
from app.http.request_state import RequestState, state_of
from app.http.tracing import trace_of
from app.logs import request_id, trace_id
from app.metrics import ENDPOINTS, Metrics
from app.settings import Settings

if TYPE_CHECKING:
    from app.http.spans import StageSpans

logger = logging.getLogger("agiqa.access")
slow_logger = logging.getLogger("agiqa.slow")

_GOOD_ID = re.compile(r"[\w.:/+=-]{1,128}")
# Who asks these has the address of a pod, say, and no name.
MACHINES = frozenset({*LIVE, *READY, "/metrics"})
_PUBLIC = MACHINES | {"/", "/docs", "/openapi.json"}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_PUBLIC_FILES = "/static/"
# Of every answer.
ALWAYS = {"X-Content-Type-Options": "nosniff"}


def id_of(headers: Headers) -> str:
    """The id of a request: the client's X-Request-ID if it can be one, else a new one."""
    wanted = headers.get("x-request-id", "")
    return wanted if _GOOD_ID.fullmatch(wanted) else f"{random.getrandbits(128):032x}"


def is_public(path: str) -> bool:
    """Whether that route path needs no key: the pages, their files, and the probes. Every other
    does, whether there is a route or not.
    """
    return path in _PUBLIC or path.startswith(_PUBLIC_FILES)


def is_for_operators(path: str) -> bool:
    """Whether that route path takes the keys of operators alone: all that lies under /models."""
    return path.startswith("/models/")


class Record:
    """What is written down of each request when it is over: metrics, the access log's line, the
    slow requests', spans.
    """

    def __init__(
        self, metrics: Metrics, slow_seconds: float = 0.0, spans: "StageSpans | None" = None
    ) -> None:
        """``slow_seconds``: a request that takes as long gets a line of its own; 0: none does."""
        self._metrics = metrics
        self._slow_seconds = slow_seconds
        self._spans = spans

    def write(self, scope: Scope, status: int) -> None:
        """Of the request that was answered so."""
        state = state_of(scope)
        seconds = time.monotonic() - state.started
        endpoint = state.path if state.path in ENDPOINTS else "other"
        self._metrics.requests.labels(endpoint, str(status)).inc()
        self._metrics.duration.labels(endpoint).observe(seconds)
        if state.priority is not None:
            self._metrics.classes.labels(state.priority, str(status)).inc()
        if state.failure is not None:
            self._metrics.failures.labels(state.failure).inc()
        level = logging.DEBUG if is_public(state.path) else logging.INFO
        path = quote(scope["path"], errors="replace")  # a line break must not forge a line
        client = scope.get("client")
        fields = {
            "method": scope["method"],
            "path": path,
            "status": status,
            "seconds": round(seconds, 4),
            "client": client[0] if client else None,
            "bytes": state.body_bytes,
            "key": state.credential.name if state.credential else None,
            "model": state.model,
            "crops": state.crops,
            "cached": len(state.cached) or None,
            "code": state.code,
        }
        fields = {name: value for name, value in fields.items() if value is not None}
        logger.log(level, "%s %s %s", scope["method"], path, status, extra=fields)
        if 0 < self._slow_seconds <= seconds:
            stages = {stage: round(took, 4) for stage, took in state.longest().items()}
            slow_logger.warning("slow request", extra=fields | {"stages": stages})
        if self._spans:
            self._spans.add_stages(state)


class RequestContext:
    """Request id, access log and metrics. Outermost, so that every answer carries its id and is
    counted.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        slow_seconds: float = 0.0,
        spans: "StageSpans | None" = None,
        *,
        sends_id: bool = True,
    ) -> None:
        """``slow_seconds``: a request that takes as long gets a line of its own; 0: none does.
        ``sends_id``: else who is in front adds the id, which it gave to the request.
        """
        self.app = app
        self.metrics = metrics
        self._spans = spans
        self._record = Record(metrics, slow_seconds, spans)
        self._sends_id = sends_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = Headers(scope=scope)
        current = id_of(sent)
        own = self._spans.trace() if self._spans else None
        token, trace = request_id.set(current), trace_id.set(own or trace_of(sent))
        state = RequestState.begun(scope)
        status, started = 500, False

        async def send_with_id(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                headers = MutableHeaders(scope=message)
                if self._sends_id:
                    headers["X-Request-ID"] = current
                headers.update(ALWAYS)
                if state.stages:
                    headers["Server-Timing"] = _server_timing(state)
            await send(message)

        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, send_with_id)
        except asyncio.CancelledError:
            if not started:  # by a router, whose client has left: the drain has an answer
                status = ClientGone.status
                state.fail(ClientGone())
            raise
        except Exception:
            logger.exception("unforeseen error")
            error = Internal()
            state.fail(error)
            if not started:
                await answer(error)(scope, receive, send_with_id)
        finally:
            self.metrics.in_flight.dec()
            state.give_back()
            self._record.write(scope, status)
            request_id.reset(token)
            trace_id.reset(trace)


def _server_timing(state: RequestState) -> str:
    """The header of that name: milliseconds by stage; at ``cache`` how it had the answer, if it had
    all of it in one way.
    """
    how = set(state.cached) if len(state.cached) == len(state.stages) else set()
    about = {"cache": f";desc={how.pop()}"} if len(how) == 1 else {}
    return ", ".join(
        f"{stage}{about.get(stage, '')};dur={1e3 * s:.1f}" for stage, s in state.longest().items()
    )


class Entrance:
    """Whom the service takes requests from, as their headers tell."""

    def __init__(self, admission: Admission, settings: Settings, keys: Keys) -> None:
        self._admission = admission
        self._keys = keys
        self._admin_keys = Keys(settings.admin_keys, "admin-key")
        self._hosts = Hosts(settings.hosts)
        self._origins = Origins(settings.allowed_origins)

    def require(self, scope: Scope) -> None:
        """Notes whose key the request has.

        Raises:
            BadPath, BadHost, CrossSite, Unauthorized, Forbidden: it is not let in.
            Overloaded: there are more connections than there should be.
            Loading, WorkerDown, Draining: nobody is, who wants something done.
        """
        state = state_of(scope)
        headers = Headers(scope=scope)
        if not scope["path"].isprintable():
            raise BadPath
        if state.path not in MACHINES:
            if scope.get("state", {}).get(CROWDED):
                raise Overloaded
            self._hosts.require(headers)
        if is_public(state.path):
            return
        if scope["method"] not in _SAFE:
            self._origins.require(headers)
        keys = self._keys
        if is_for_operators(state.path):
            keys = self._admin_keys
            if not keys:
                raise Forbidden
        if keys:
            state.belongs_to(keys.key(headers))
        if scope["method"] == "POST":
            self._admission.require_open()


class Gate:
    """Refuses before the body is read: an address that can't be printed, a name that is not ours, a
    page of another site, no key, more connections than there should be, or a service that takes no
    requests now. What is public needs no key.
    """

    def __init__(self, app: ASGIApp, admission: Admission, settings: Settings, keys: Keys) -> None:
        self.app = app
        self._entrance = Entrance(admission, settings, keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request pass, or answers it with a problem."""
        if scope["type"] == "websocket":  # there is none, and none that comes is open by mistake
            await WebSocketClose()(scope, receive, send)
            return
        if scope["type"] == "http":
            try:
                self._entrance.require(scope)
            except ServiceError as refusal:
                state_of(scope).fail(refusal)
                await answer(refusal)(scope, receive, send)
                return
        await self.app(scope, receive, send)
