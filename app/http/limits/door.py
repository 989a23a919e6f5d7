"""The door before the application: who would be told there that there is no room is told so at
once. Under ten times the load most requests end here, and what one costs is lost to the others.
"""

import logging
import math
import time
from collections.abc import Coroutine
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.batching.admission import Admission
from app.batching.errors import Overloaded, ServiceError
from app.http.keys import Keys
from app.http.limits.bodies import SCORING, Room, announced
from app.http.middleware import ALWAYS, Entrance, Record, id_of
from app.http.problems import answer
from app.http.request_state import RequestState
from app.http.tracing import trace_of
from app.logs import request_id, trace_id
from app.metrics import Metrics
from app.settings import Settings

logger = logging.getLogger(__name__)

# So long after a refusal it is likely that there is another one.
_LATELY_SECONDS = 1.0


class Door:
    """Looks at a request's head as the middleware will. It refuses what has no room, in the same
    words; everything else it leaves to them, refusals for other reasons too, with the place that
    was taken.
    """

    paths = frozenset(path.encode() for path in SCORING)

    def __init__(
        self, admission: Admission, metrics: Metrics, settings: Settings, keys: Keys
    ) -> None:
        self._entrance = Entrance(admission, settings, keys)
        self._room = Room(admission, settings)
        self._record = Record(metrics, settings.slow_request_seconds)
        trusted = list(settings.forwarded_allow_ips)
        self._behind_proxies: Any = ProxyHeadersMiddleware(_nothing, trusted)
        self._refused_at = -math.inf

    @property
    def is_refusing(self) -> bool:
        """Whether it has refused somebody within the last second."""
        return time.monotonic() - self._refused_at < _LATELY_SECONDS

    def refusal(self, scope: Scope) -> Response | None:
        """Of a POST to one of ``paths``, whose body's length is known; None: the application has to
        see it. ``scope`` has a path and a method, and keeps what was found out.
        """
        forwarded = dict(scope)
        headers = Headers(scope=scope)
        if "x-forwarded-for" in headers:
            # The client's address behind a proxy, as the server finds it for the application.
            _at_once(self._behind_proxies(forwarded, _nothing, _nothing))
        state = RequestState.begun(forwarded)
        state.store(scope)
        try:
            self._entrance.require(scope)
            if announced(headers) > self._room.most(state.path):
                return None
            self._room.require(state, headers)
        except Overloaded as refusal:
            return self._answer(refusal, forwarded, headers)
        except ServiceError:
            return None
        except Exception:  # which the parser would take for a fault of the request
            logger.exception("unforeseen error at the door")
        return None

    def _answer(self, refusal: Overloaded, scope: Scope, headers: Headers) -> Response:
        """The refusal, written down."""
        self._refused_at = time.monotonic()
        current = id_of(headers)
        token, trace = request_id.set(current), trace_id.set(trace_of(headers))
        try:
            RequestState.begun(scope).fail(refusal)
            response = answer(refusal, {"X-Request-ID": current, **ALWAYS})
            self._record.write(scope, response.status_code)
        finally:
            request_id.reset(token)
            trace_id.reset(trace)
        return response


async def _nothing(*_: Any) -> None:
    """An application that never waits, and a client that is never asked."""


def _at_once(work: Coroutine[Any, Any, None]) -> None:
    """Runs to its end what never waits."""
    try:
        work.send(None)
    except StopIteration:
        return
    work.close()
    raise AssertionError("it waits for something")
