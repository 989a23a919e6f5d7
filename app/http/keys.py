"""API keys: whose a request is, checked before its body is read and once more by the route."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import ASGIApp, Receive, Scope, Send

from app.batching.errors import Overloaded, ServiceError, Unauthorized
from app.http.openapi import BEARER
from app.http.problems import answer
from app.http.request_state import state_of
from app.key_file import Key, KeyFile, hash_of


class Keys:
    """The keys that open the service: those of a setting, which the log calls by ``name`` and
    number, and those of a file; without any it is open.
    """

    def __init__(self, keys: Sequence[str], name: str = "key", file: KeyFile | None = None) -> None:
        hashes = [hash_of(key.encode()) for key in keys]
        self._own = {
            # Not validated: these names are free to nobody else.
            one: Key.model_construct(name=f"{name}-{number}", sha256=one)
            for number, one in enumerate(hashes, 1)
        }
        self._file = file

    def __bool__(self) -> bool:
        return bool(self._own) or self._file is not None

    def key(self, headers: Mapping[str, str]) -> Key:
        """The key that a request has.

        Raises:
            Unauthorized: none, or none that opens.
        """
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        # By their hashes: how long the search takes tells nothing of the keys.
        wanted = hash_of(sent.strip().encode())
        found = self._own.get(wanted)
        if found is None and self._file is not None:
            found = self._file.by_hash.get(wanted)
        if scheme.lower() != "bearer" or found is None:
            raise Unauthorized
        return found


class KeyLimits:
    """Refuses a request whose key has as many under way as it may, before the body is read. Pure
    ASGI; inside of what looks at the keys.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with 429."""
        key = state_of(scope).credential if scope["type"] == "http" else None
        if key is None:
            await self.app(scope, receive, send)
            return
        if 0 < key.concurrency <= self._under_way[key.name]:
            refusal = Overloaded(
                f"Your key has {key.concurrency} requests under way, as many as it may; wait for "
                "one of them, or try again after the seconds that Retry-After gives."
            )
            state_of(scope).fail(refusal)
            await answer(refusal)(scope, receive, send)
            return
        self._under_way[key.name] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._under_way[key.name] -= 1
            self._under_way += Counter()  # no name stays that has none under way


def required(
    keys: Keys, scheme: HTTPBearer = BEARER, without: type[ServiceError] | None = None
) -> Callable[..., Awaitable[None]]:
    """The dependency of a route that needs a key, whatever address has led to it; ``without``: the
    refusal where no keys are set, None: it is open then.
    """

    async def require_key(
        request: Request,
        _: Annotated[HTTPAuthorizationCredentials | None, Security(scheme)],
    ) -> None:
        if keys:
            keys.key(request.headers)
        elif without:
            raise without

    return require_key
