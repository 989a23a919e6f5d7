"""What the parts around a request and its endpoint leave for each other."""

import time
from dataclasses import dataclass, field

from starlette.types import Scope

from app.batching.errors import ServiceError

_KEY = "agiqa.request"


@dataclass
class RequestState:
    """One request, from its first header to its log line.

    Attributes:
        path: as the routes name it: without the prefix that the application is mounted under.
        started: on the monotonic clock.
        failure: why there is no answer, as the metrics count it.
        refusal: what is wrong with the body; the form parser turns every error into one of its own.
    """

    path: str
    started: float = field(default_factory=time.monotonic)
    failure: str | None = None
    refusal: ServiceError | None = None

    def store(self, scope: Scope) -> None:
        """Puts it where ``state_of`` finds it."""
        scope[_KEY] = self


def state_of(scope: Scope) -> RequestState:
    """The state of the request, which ``RequestContext`` has put there."""
    state: RequestState = scope[_KEY]
    return state
