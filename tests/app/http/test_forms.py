"""Uploads of our routes stay in memory; those of another application don't."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Iterable
from tempfile import SpooledTemporaryFile

import httpx
import pytest
from fastapi import APIRouter, FastAPI, UploadFile
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from app.http import forms
from app.http.forms import UploadRoute


def uploading(route_class: type[APIRoute]) -> TestClient:
    router = APIRouter(route_class=route_class)

    @router.post("/")
    async def spooled(files: list[UploadFile]) -> list[bool]:
        """Whether each file lies on the disk."""
        return [isinstance(f.file, SpooledTemporaryFile) and f.file._rolled for f in files]  # type: ignore[attr-defined]

    app = FastAPI()
    app.include_router(router)
    return TestClient(app)


def parts(sizes: Iterable[int]) -> list[tuple[str, bytes]]:
    return [("files", bytes(size)) for size in sizes]


@pytest.mark.parametrize(("route_class", "on_disk"), [(UploadRoute, False), (APIRoute, True)])
def test_a_large_upload_stays_in_memory_for_our_routes_alone(
    route_class: type[APIRoute], on_disk: bool
) -> None:
    answer = uploading(route_class).post("/", files=parts([1000, 3 * 2**20]))
    assert answer.json() == [False, on_disk]


@pytest.mark.parametrize("kind", ["image/jpeg", "multipart/form-data; boundary=x"])
@pytest.mark.parametrize(("size", "aside"), [(2**20 - 1, False), (2**20, True)])
def test_a_large_upload_is_put_together_off_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, kind: str, size: int, aside: bool
) -> None:
    read, threads = forms._Pieces.read, list[int]()

    def noted(self: forms._Pieces, size: int = -1) -> bytes:
        threads.append(threading.get_ident())
        return read(self, size)

    monkeypatch.setattr(forms._Pieces, "read", noted)
    app = FastAPI()
    router = APIRouter(route_class=UploadRoute)

    @router.post("/")
    async def read_whole(image: UploadFile) -> list[bool]:
        data = await image.read()
        return [data == content, threads == [threading.get_ident()], await image.read() == b""]

    app.include_router(router)
    content = random.Random(0).randbytes(size)
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    around = (head, b"\r\n--x--\r\n") if "form" in kind else (b"", b"")
    pieces = [around[0], content[:1000], content[1000:5000], content[5000:], around[1]]

    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.post("/", content=stream(), headers={"content-type": kind})

    assert asyncio.run(post()).json() == [True, not aside, True]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"nonsense", "multipart/form-data; boundary=x"),
        (b"--x\r\nnonsense", "multipart/form-data; boundary=x"),
        (b"", "multipart/form-data"),
        (b"files=1", "application/x-www-form-urlencoded"),
        (b"", "text/plain"),
    ],
)
def test_a_bad_form_is_refused_as_by_fastapi_itself(content: bytes, kind: str) -> None:
    answers = [
        uploading(route).post("/", content=content, headers={"content-type": kind})
        for route in (UploadRoute, APIRoute)
    ]
    assert answers[0].status_code == answers[1].status_code >= 400
    assert answers[0].json() == answers[1].json()
