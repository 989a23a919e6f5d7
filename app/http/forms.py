"""Forms whose files stay in memory, for the routes that take uploads."""

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser


class UploadRoute(APIRoute):
    """Reads uploads without a temporary file: the gate limits the whole body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own handler, with another parser of forms."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_UploadRequest(request.scope, request.receive))

        return handle


class _InMemoryParser(MultiPartParser):
    spool_max_size = 0  # of SpooledTemporaryFile: never to disk


class _UploadRequest(Request):
    async def form(self, **limits: Any) -> FormData:  # type: ignore[override]
        if not self.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            return await super().form(**limits)
        try:
            async with contextlib.aclosing(self.stream()) as stream:
                return await _InMemoryParser(self.headers, stream, **limits).parse()
        except MultiPartException as error:
            raise HTTPException(400, error.message) from error
