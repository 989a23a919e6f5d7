"""What the parts around a request and its endpoint leave for each other."""

import ipaddress
import time
from dataclasses import dataclass, field

from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.types import Scope

from app.batching.errors import BadField, ServiceError
from app.batching.fairness import Priority, Sender
from app.batching.jobs import Stages
from app.batching.ledger import Ticket
from app.key_file import Key

_KEY = "agiqa.request"
# How the paths of batch calls end.
BATCH = "/batch"


@dataclass
class RequestState:
    """One request, from its first header to its log line.

    Attributes:
        path: as the routes name it: without the prefix that the application is mounted under.
        owner: who sent it, for what is shared fairly: the name of its key (``key-1`` if it has
            none), else the address of the client, of IPv6 the network of 64 bits that one customer
            gets.
        credential: its key, where the service has keys.
        priority: its class, once somebody has looked at it.
        started: on the monotonic clock.
        failure: why there is no answer, as the metrics count it.
        code: of the problem that was answered.
        body_bytes: as far as it was read.
        crops: that the answer's images have.
        model: that computes them.
        device: that the model is on.
        stages: of each of its images.
        place: what it was let in with at the door; who has begun the request gives it back.
        refusal: what is wrong with the body; the form parser turns every error into one of its own.
    """

    path: str
    owner: str = "-"
    credential: Key | None = None
    priority: Priority | None = None
    started: float = field(default_factory=time.monotonic)
    failure: str | None = None
    code: str | None = None
    body_bytes: int = 0
    crops: int | None = None
    model: str | None = None
    device: str | None = None
    place: Ticket | None = None
    refusal: ServiceError | None = None
    stages: list[Stages] = field(default_factory=list)

    @classmethod
    def of(cls, scope: Scope) -> "RequestState":
        """The state of a request that has just come, and whose key nobody has looked at."""
        # Now: a router changes the scope when it passes a request on to what is mounted.
        return cls(get_route_path(scope), _network(scope.get("client")))

    def longest(self) -> dict[str, float]:
        """Seconds by stage: of a batch call, whose images go side by side, those of the image that
        was in it longest.
        """
        longest: dict[str, float] = {}
        for stage, seconds in (pair for image in self.stages for pair in image.items()):
            longest[stage] = max(seconds, longest.get(stage, 0.0))
        return longest

    @property
    def cached(self) -> list[str]:
        """How the cache had the scores of those images that were not computed for this request."""
        return [image.cached for image in self.stages if image.cached]

    def belongs_to(self, key: Key) -> None:
        """Notes whose key it has."""
        self.owner = key.name
        self.credential = key

    def sender(self, headers: Headers) -> Sender:
        """Who sends it, and how urgent it is, which is noted.

        Raises:
            BadField: X-Priority names no class.
        """
        is_batch = self.path.endswith(BATCH)
        wanted = headers.get("x-priority") or (Priority.BULK if is_batch else Priority.INTERACTIVE)
        try:
            self.priority = Priority(wanted)
        except ValueError:
            raise BadField(
                f"The header X-Priority is {wanted!r}; give {' or '.join(Priority)}."
            ) from None
        weight = self.credential.weight if self.credential else 1.0
        return Sender(self.owner, weight, self.priority)

    def fail(self, error: ServiceError) -> None:
        """Notes the error that the request is answered with."""
        self.failure = error.reason
        self.code = error.code

    def give_back(self) -> None:
        """The request is over: what it was let in with is free again."""
        if self.place:
            self.place.release()

    def store(self, scope: Scope) -> None:
        """Puts it where ``state_of`` finds it."""
        scope[_KEY] = self

    @classmethod
    def begun(cls, scope: Scope) -> "RequestState":
        """The state of a request that comes in: the one that the door has begun, or a new one."""
        state = scope.get(_KEY)
        if not isinstance(state, cls):
            state = cls.of(scope)
            state.store(scope)
        return state


def state_of(scope: Scope) -> RequestState:
    """The state of the request, which the door or ``RequestContext`` has begun."""
    state: RequestState = scope[_KEY]
    return state


def allowed_seconds(headers: Headers, most: float) -> float:
    """What a request may take from its start: ``most``, or what X-Request-Timeout lowers it to.

    Raises:
        BadField: the header holds no such number.
    """
    header = headers.get("x-request-timeout")
    if not header:
        return most
    try:
        wanted = float(header)
    except ValueError:
        wanted = 0.0
    if not wanted > 0:
        raise BadField(f"The header X-Request-Timeout is {header!r}; give seconds above 0.")
    return min(most, wanted)


def _network(client: tuple[str, int] | None) -> str:
    host = client[0] if client else "-"
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), 64), strict=False))
