"""API keys: whose a request is, checked before its body is read and once more by the route."""

import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials

from app.batching.errors import Forbidden, Unauthorized
from app.http.openapi import ADMIN, BEARER


class Keys:
    """The keys that open the service; without any it is open."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [key.encode() for key in keys]

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
        return f"key-{known.index(True) + 1}"


def owner_among_operators(keys: Keys, headers: Mapping[str, str]) -> str:
    """As ``Keys.owner``, for what only operators may do.

    Raises:
        Forbidden: the service has no keys for them.
        Unauthorized: none of them.
    """
    if not keys:
        raise Forbidden
    return f"admin-{keys.owner(headers)}"


def required(keys: Keys) -> Callable[..., Awaitable[None]]:
    """The dependency of a route that needs a key, whatever address has led to it."""

    async def require_key(
        request: Request,
        _: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)],
    ) -> None:
        if keys:
            keys.owner(request.headers)

    return require_key


def required_of_operators(keys: Keys) -> Callable[..., Awaitable[None]]:
    """The dependency of a route that only operators may call."""

    async def require_key(
        request: Request,
        _: Annotated[HTTPAuthorizationCredentials | None, Security(ADMIN)],
    ) -> None:
        owner_among_operators(keys, request.headers)

    return require_key
