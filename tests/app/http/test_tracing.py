"""Where a request's time went, and the trace that it is part of."""

import asyncio
import json
import logging
import re
from typing import Any

import pytest
from starlette.datastructures import Headers

from app.http.tracing import trace_of
from app.logs import JsonFormatter
from tests.app.fake_device import SETTINGS, SMALL, FakeDevice, run, served

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STAGES = {"read", "decode", "queue", "inference", "reduce"}
ALWAYS_SLOW = SETTINGS.model_copy(update={"slow_request_seconds": 1e-9})


def durations(header: str) -> dict[str, float]:
    """By stage, as a browser reads them."""
    parts = [re.fullmatch(r"(\w+);dur=(\d+\.\d)", part) for part in header.split(", ")]
    return {part[1]: float(part[2]) for part in parts if part}


def slow_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(r) for r in caplog.records if r.name == "agiqa.slow"]


def test_an_answer_with_scores_says_where_its_time_went() -> None:
    async def scenario() -> None:
        async with served(FakeDevice()) as here:
            single = durations((await here.post()).headers["server-timing"])
            assert set(single) == STAGES
            assert single["inference"] == single["decode"] == 1.0
            files = [("images", ("a.png", SMALL)), ("images", ("b.png", SMALL))]
            batch = await here.client.post("/score-agi/batch", files=files)
            shown = durations(batch.headers["server-timing"])
            assert set(shown) == STAGES
            assert shown["decode"] == 1.0  # the longest of the two, which go side by side

    run(scenario)


def test_what_was_never_read_has_no_stages() -> None:
    async def scenario() -> None:
        async with served(FakeDevice()) as here:
            assert "server-timing" not in (await here.client.get("/models")).headers
            assert "server-timing" not in (await here.client.post("/score")).headers

    run(scenario)


def test_a_slow_request_gets_a_line_with_its_stages(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with served(FakeDevice(), ALWAYS_SLOW) as here:
            await here.post()

    run(scenario)
    (line,) = slow_lines(caplog)
    assert line["levelname"] == "WARNING"
    assert set(line["stages"]) == STAGES
    assert (line["path"], line["status"], line["model"]) == ("/score-agi", 200, "fake")


@pytest.mark.parametrize("seconds", [0.0, 1000.0])
def test_there_is_no_line_of_a_quick_request_and_none_where_the_setting_is_0(
    caplog: pytest.LogCaptureFixture, seconds: float
) -> None:
    async def scenario() -> None:
        settings = SETTINGS.model_copy(update={"slow_request_seconds": seconds})
        async with served(FakeDevice(), settings) as here:
            await here.post()

    run(scenario)
    assert slow_lines(caplog) == []


class _Lines(logging.Handler):
    """Formats each record at once, as the service's own handler does."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


def test_every_line_of_a_request_carries_the_trace_that_it_came_with(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with served(FakeDevice(), ALWAYS_SLOW) as here:
            header = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            await asyncio.gather(here.post(**header), here.post("a hare"))

    caplog.set_level("INFO")
    lines = _Lines()
    logging.getLogger().addHandler(lines)
    try:
        run(scenario)
    finally:
        logging.getLogger().removeHandler(lines)
    for name in ("agiqa.access", "agiqa.slow"):
        found = [line.get("trace_id") for line in lines.lines if line["logger"] == name]
        assert sorted(found, key=str) == [TRACE, None]


@pytest.mark.parametrize(
    ("sent", "trace"),
    [
        ([f"00-{TRACE}-{PARENT}-00"], TRACE),
        ([f"cc-{TRACE}-{PARENT}-01-what-the-future-adds"], TRACE),
        ([f"cc-{TRACE}-{PARENT}-01"], TRACE),
        ([], None),
        ([""], None),
        ([f"00-{TRACE}-{PARENT}-01-more"], None),
        ([f"ff-{TRACE}-{PARENT}-01"], None),
        ([f"00-{'0' * 32}-{PARENT}-01"], None),
        ([f"00-{TRACE}-{'0' * 16}-01"], None),
        ([f"00-{TRACE.upper()}-{PARENT}-01"], None),
        ([f"00-{TRACE[1:]}-{PARENT}-01"], None),
        ([f"cc-{TRACE}-{PARENT}-01.more"], None),
        ([f"00-{TRACE}-{PARENT}-01"] * 2, None),
        ([f"00-{TRACE}-{PARENT}-01\n"], None),
    ],
)
def test_only_a_header_that_is_formed_as_the_standard_says_names_a_trace(
    sent: list[str], trace: str | None
) -> None:
    headers = Headers(raw=[(b"traceparent", value.encode()) for value in sent])
    assert trace_of(headers) == trace
