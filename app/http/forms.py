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

# From so many on, Python joins bytes without its lock.
_IN_A_THREAD_BYTES = 2**20


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
    """A file of the pieces that came, put together once, when it is read: in a thread, if they are
    large. New memory has to be found and cleared for them, and uploads that came side by side are
    complete at the same time.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        # As SpooledTemporaryFile says that it is on disk, so that UploadFile reads it in a thread.
        self._rolled = False

    def write(self, piece: bytes) -> int:
        self._pieces.append(piece)
        return len(piece)

    def read(self, size: int = -1) -> bytes:
        """All of it; who reads it part by part gets it all at first, and then nothing."""
        del size
        whole = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._rolled = False
        return whole

    def seek(self, offset: int) -> int:
        """To the beginning: all of it is there, and nothing was read."""
        self._rolled = len(self._pieces) > 1 and self.tell() >= _IN_A_THREAD_BYTES
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
        pieces.seek(0)
        return UploadFile(pieces)  # type: ignore[arg-type]
