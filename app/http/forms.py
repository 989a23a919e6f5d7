"""Uploads that stay in memory, for the routes that take them: files of a form, or one image as the
whole body.
"""

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser


class UploadRoute(APIRoute):
    """Reads uploads without a temporary file: the gate limits the whole body. A body of an
    ``image/`` type is the form's file ``image``, which costs no parser.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own handler, with another parser of forms."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_UploadRequest(request.scope, request.receive))

        return handle


class _Pieces:
    """A file of the pieces that came, put together once, when it is read. One that grows by each
    piece, and is copied when it is read, holds the event loop up: 8 MiB for over ten milliseconds.
    """

    _rolled = False  # as SpooledTemporaryFile says that it is not on disk

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, piece: bytes) -> int:
        self._pieces.append(piece)
        return len(piece)

    def read(self, size: int = -1) -> bytes:
        """All of it; who reads it part by part gets it all at first, and then nothing."""
        del size
        whole = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        return whole

    def seek(self, offset: int) -> int:
        """The parser asks for the beginning before anything was read."""
        return offset

    def tell(self) -> int:
        return sum(map(len, self._pieces))

    def close(self) -> None:
        self._pieces.clear()


class _InMemoryParser(MultiPartParser):
    spool_max_size = 0  # never to disk

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        if upload := self._current_part.file:
            upload.file.close()
            upload.file = _Pieces()  # type: ignore[assignment]
            self._files_to_close_on_error[-1] = upload.file  # type: ignore[call-overload]


class _UploadRequest(Request):
    async def form(self, **limits: Any) -> FormData:  # type: ignore[override]
        kind = self.headers.get("content-type", "").lower()
        if kind.startswith("image/"):
            return FormData([("image", await self._image())])
        if not kind.startswith("multipart/form-data"):
            return await super().form(**limits)
        try:
            async with contextlib.aclosing(self.stream()) as stream:
                return await _InMemoryParser(self.headers, stream, **limits).parse()
        except MultiPartException as error:
            raise HTTPException(400, error.message) from error

    async def _image(self) -> UploadFile:
        pieces = _Pieces()
        async with contextlib.aclosing(self.stream()) as stream:
            async for piece in stream:
                pieces.write(piece)
        return UploadFile(pieces)  # type: ignore[arg-type]
