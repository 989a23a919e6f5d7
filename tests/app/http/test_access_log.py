"""The access line: who sent how much, and what came of it."""

import asyncio
from typing import Any

import pytest

from app.main import create_app, server_config
from app.settings import Settings
from tests.app.fake_device import SETTINGS, SMALL, FakeDevice, run, served
from tests.app.http.test_middleware import ask

KEYED = SETTINGS.model_copy(update={"api_keys": ("first", "second")})


def line(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """The fields of the one access line."""
    (record,) = [r for r in caplog.records if r.name == "agiqa.access"]
    return vars(record)


def test_it_names_client_key_size_model_and_crops_of_a_score(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with served(FakeDevice(), KEYED) as here:
            answer = await here.post(Authorization="Bearer second")
            assert answer.status_code == 200

    caplog.set_level("INFO", "agiqa.access")
    run(scenario)
    fields = line(caplog)
    assert fields["client"] == "127.0.0.1"
    assert fields["key"] == "key-2"
    assert len(SMALL) < fields["bytes"] < len(SMALL) + 1000
    assert (fields["model"], fields["crops"]) == ("fake", 1)
    assert "code" not in fields
    assert "second" not in str(fields["message"])


def test_it_names_the_code_of_a_refusal_and_no_key_where_there_are_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with served(FakeDevice()) as here:
            await here.client.post("/score-agi", files={"image": b"no image"})

    caplog.set_level("INFO", "agiqa.access")
    run(scenario)
    fields = line(caplog)
    assert fields["code"] == "unsupported_image"
    assert fields["model"] == "fake"
    assert not {"key", "crops"} & set(fields)


@pytest.mark.parametrize(
    ("trusted", "client"), [(("192.0.2.1",), "198.51.100.9"), (("127.0.0.1",), "192.0.2.1")]
)
def test_the_client_is_whom_a_trusted_proxy_names(
    caplog: pytest.LogCaptureFixture, trusted: tuple[str, ...], client: str
) -> None:
    settings = Settings(max_crop_mib=1, forwarded_allow_ips=trusted)
    config = server_config(create_app(settings, device=lambda _, __: FakeDevice()), settings)
    config.load()
    caplog.set_level("INFO", "agiqa.access")
    forwarded = {"x-forwarded-for": "203.0.113.5, 198.51.100.9"}
    asyncio.run(ask(config.loaded_app, headers=forwarded, client=("192.0.2.1", 4711)))
    assert line(caplog)["client"] == client
