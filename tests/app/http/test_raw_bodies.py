"""An image as the whole body is served as one in a form is, under the same limits."""

import asyncio
from typing import Any

import httpx
import pytest

from app.main import create_app
from tests.app.fake_device import SETTINGS, SMALL, FakeDevice, loaded, run, served
from tests.app.http.limits.test_bodies import MIB, Upload, application, in_flight
from tests.app.pictures import encoded, picture

JPEG = {"content-type": "image/jpeg"}
PHOTOGRAPHS = loaded("quality", name="photographs")
GENERATED = loaded("quality", "alignment", "consistency", name="generated")


class Raw(Upload):
    """An upload whose body claims to be an image."""

    def __init__(self, size: int | None) -> None:
        super().__init__(application(body_seconds=0.05), size)
        self.extra |= JPEG


def answered(path: str, **body: Any) -> httpx.Response:
    """By a service that has no worker."""
    answers = []

    async def scenario() -> None:
        async with served(FakeDevice(PHOTOGRAPHS, GENERATED)) as service:
            answers.append(await service.client.post(path, **body))

    run(scenario)
    return answers[0]


@pytest.mark.parametrize("path", ["/score", "/score-agi", "/score?detail=true&model=generated"])
@pytest.mark.parametrize("kind", ["image/jpeg", "IMAGE/x-unheard-of", "image/png; a=b"])
def test_a_raw_image_gets_the_answer_of_one_in_a_form(path: str, kind: str) -> None:
    in_a_form = answered(path, files={"image": SMALL})
    raw = answered(path, content=SMALL, headers={"content-type": kind})
    assert raw.status_code == in_a_form.status_code == 200
    assert raw.json() == in_a_form.json()


def test_a_raw_image_that_comes_in_pieces_is_put_together() -> None:
    data = encoded(picture(700, 600))

    async def scenario() -> None:
        async def pieces() -> Any:
            for at in range(0, len(data), 10_000):
                yield data[at : at + 10_000]

        async with served(FakeDevice(PHOTOGRAPHS)) as service:
            answer = await service.client.post("/score", content=pieces(), headers=JPEG)
            assert answer.status_code == 200, answer.text

    run(scenario)


@pytest.mark.parametrize(
    ("path", "data", "status", "code"),
    [
        ("/score", b"no image", 415, "unsupported_image"),
        ("/score", SMALL[:60], 400, "unreadable_image"),
        ("/score", b"", 400, "unreadable_image"),
        ("/score/batch", SMALL, 422, "bad_field"),
    ],
)
def test_a_raw_body_that_is_no_image_gets_the_error_of_a_form(
    path: str, data: bytes, status: int, code: str
) -> None:
    answer = answered(path, content=data, headers=JPEG)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_an_image_of_another_type_is_still_no_form() -> None:
    answer = answered("/score", content=SMALL, headers={"content-type": "application/octet-stream"})
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_field")


def test_a_raw_image_over_the_limit_is_refused_by_its_length_and_takes_no_room() -> None:
    async def scenario() -> None:
        upload = Raw(2 * MIB)
        assert (await upload.send_all())[:2] == (413, "too_large")
        assert in_flight(upload.app) == upload.read == 0

    run(scenario)


def test_a_raw_image_without_a_length_is_read_no_further_than_the_limit() -> None:
    async def scenario() -> None:
        upload = Raw(None)
        for _ in range(20):
            upload.part(MIB // 8)
        assert (await upload.send_all())[:2] == (413, "too_large")
        assert upload.read < 2 * MIB
        assert in_flight(upload.app) == 0

    run(scenario)


@pytest.mark.parametrize(("goes", "code"), [(False, "slow_body"), (True, "client_gone")])
def test_a_raw_image_that_does_not_come_gives_its_room_back(goes: bool, code: str) -> None:
    async def scenario() -> None:
        upload = Raw(1000)
        upload.part(100)
        task = asyncio.create_task(upload.send_all())
        if goes:
            upload.parts.put_nowait({"type": "http.disconnect"})
        assert (await task)[1] == code
        assert in_flight(upload.app) == 0

    run(scenario)


def test_the_openapi_page_shows_the_raw_body_beside_the_form_of_single_images_alone() -> None:
    paths = create_app(SETTINGS, device=lambda _, __: FakeDevice()).openapi()["paths"]
    kinds = {
        path: set(operation["requestBody"]["content"])
        for path, methods in paths.items()
        if (operation := methods.get("post")) and "requestBody" in operation
    }
    assert kinds["/score"] == kinds["/score-agi"] == {"multipart/form-data", "image/*"}
    assert kinds["/score/batch"] == kinds["/score-agi/batch"] == {"multipart/form-data"}
