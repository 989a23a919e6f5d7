"""API keys: whose a request is, checked before its body is read and once more by the route."""

import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.batching.errors import ServiceError, Unauthorized
from app.http.openapi import BEARER


class Keys:
    """The keys that open the service; without any it is open. ``name`` is for logs."""

    def __init__(self, keys: Sequence[str], name: str = "key") -> None:
        self._keys = [key.encode() for key in keys]
        self._name = name

    def __bool__(self) -> bool:
        return bool(self._keys)

    def owner(self, headers: Mapping[str, str]) -> str:
        """Which of the keys a request has, as a number, since keys belong into no log.

        Raises:
            Unauthorized: none of them.
        """
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        known = [hmac.compare_digest(sent.strip().encode(), key) for key in self._keys]
        if scheme.lower() != "bearer" or not any(known):
            raise Unauthorized
        return f"{self._name}-{known.index(True) + 1}"


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
            keys.owner(request.headers)
        elif without:
            raise without

    return require_key
