"""Uploads of our routes stay in memory; those of another application don't."""

from collections.abc import Iterable

import pytest
from fastapi import APIRouter, FastAPI, UploadFile
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from app.http.forms import UploadRoute


def uploading(route_class: type[APIRoute]) -> TestClient:
    router = APIRouter(route_class=route_class)

    @router.post("/")
    async def spooled(files: list[UploadFile]) -> list[bool]:
        """Whether each file lies on the disk."""
        return [bool(getattr(file.file, "_rolled", None)) for file in files]

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
