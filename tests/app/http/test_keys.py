"""Keys of a file, as clients meet them."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.key_file import hash_of
from app.main import create_app
from app.settings import SettingsError
from tests.app.fake_device import SETTINGS, FakeDevice, Served, run, served, until
from tests.app.http.test_access_log import line


def key_file(folder: Path, **concurrency: int) -> Path:
    """Keys of these names, each the hash of its own name, with these limits."""
    new = folder / "new.toml"
    new.write_text(
        "".join(
            f'[[keys]]\nname = "{name}"\nsha256 = "{hash_of(name.encode())}"\n'
            f"concurrency = {most}\n"
            for name, most in concurrency.items()
        )
    )
    return new.replace(folder / "keys.toml")


def settings(file: Path, **others: Any) -> Any:
    return SETTINGS.model_copy(update={"keys_file": file, **others})


async def status(here: Served, key: str) -> int:
    return (await here.post(Authorization=f"Bearer {key}")).status_code


def test_a_key_of_the_file_opens_beside_those_of_the_setting_and_is_logged_by_its_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        both = settings(key_file(tmp_path, gallery=0), api_keys=("first",))
        async with served(FakeDevice(), both) as here:
            for refused in ("wrong", "", hash_of(b"gallery")):
                assert await status(here, refused) == 401
            assert (await here.post()).status_code == 401
            assert await status(here, "first") == 200
            caplog.clear()
            caplog.set_level("INFO", "agiqa.access")
            assert await status(here, "gallery") == 200

    run(scenario)
    assert line(caplog)["key"] == "gallery"


def test_keys_are_exchanged_while_the_service_runs(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(FakeDevice(), settings(key_file(tmp_path, old=0))) as here:
            assert await status(here, "old") == 200
            key_file(tmp_path, new=0)
            while await status(here, "new") != 200:  # noqa: ASYNC110 - a thread looks at the file
                await asyncio.sleep(0.05)
            assert await status(here, "old") == 401

    run(scenario)


def test_a_service_whose_keys_cannot_be_used_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nowhere"):
        create_app(settings(tmp_path / "nowhere.toml"), device=lambda _, __: FakeDevice())


def test_a_key_has_no_more_requests_under_way_than_it_may(tmp_path: Path) -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device, settings(key_file(tmp_path, greedy=1, free=0))) as here:
            device.gate.clear()
            waiting = [asyncio.create_task(status(here, key)) for key in ("greedy", "free", "free")]
            await until(lambda: here.app.state.service.admission.cost == 9)
            refused = await here.post(Authorization="Bearer greedy")
            assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
            assert int(refused.headers["retry-after"]) >= 1
            assert "1 requests under way" in refused.json()["detail"]
            device.gate.set()
            assert await asyncio.gather(*waiting) == [200, 200, 200]
            assert await status(here, "greedy") == 200
            assert here.metric("agiqa_request_failures_total", reason="overloaded") == 1

    run(scenario)


def test_a_body_is_not_read_of_a_request_that_its_key_has_no_room_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        device = FakeDevice()
        async with served(device, settings(key_file(tmp_path, greedy=1))) as here:
            device.gate.clear()
            first = asyncio.create_task(status(here, "greedy"))
            await until(lambda: bool(device.batches))
            read = list[int]()

            async def body() -> Any:
                read.append(1)
                yield b"--b\r\n"

            headers = {
                "authorization": "Bearer greedy",
                "content-type": "multipart/form-data; boundary=b",
            }
            refused = await here.client.post("/score", content=body(), headers=headers)
            assert refused.status_code == 429
            assert read == []
            device.gate.set()
            assert await first == 200

    run(scenario)


def test_a_request_that_fails_gives_its_place_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(FakeDevice(), settings(key_file(tmp_path, greedy=1))) as here:
            for _ in range(3):
                headers = {"authorization": "Bearer greedy"}
                bad = await here.client.post("/score", files={"image": b"no"}, headers=headers)
                assert bad.status_code == 415

    run(scenario)
