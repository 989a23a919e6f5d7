"""What the real service exports of a request: one span, and its stages below it."""

import json
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from uvicorn.lifespan.on import LifespanOn

from app.batching.admission import State
from app.device.arena import Arena
from app.device.messages import WorkerSettings
from app.main import create_app
from tests.app.fake_device import SETTINGS, FakeDevice, InProcessDecoder, run, until
from tests.app.pictures import encoded, picture
from tests.app.server import Running, serving

pytest.importorskip(
    "opentelemetry.exporter.otlp.proto.http", reason="needs agiqa[otel]: make test installs it"
)
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from app.http.spans import StageSpans

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STAGES = ["read", "decode", "queue", "inference", "reduce"]
IMAGE = {"image": encoded(picture(300, 260))}
Span = trace_pb2.Span


class Sink(ThreadingHTTPServer):
    """Takes spans by OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Sink

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/v1/traces"
        request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def collecting() -> Iterator[Sink]:
    sink = Sink()
    thread = threading.Thread(target=sink.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield sink
    finally:
        sink.shutdown()
        sink.server_close()
        thread.join()


@contextmanager
def traced(folder: Path, sink: Sink) -> Iterator[Running]:
    """A service that has exported all when it has ended."""
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{sink.server_address[1]}",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
    }
    with serving(folder, variables) as service:
        yield service


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Span], list[dict[str, Any]]]:
    """The spans and the access lines of: a request of somebody's trace, one of nobody's, a batch
    call of two, a refusal, probes and a scrape.
    """
    folder = tmp_path_factory.mktemp("traced")
    with collecting() as sink:
        with traced(folder, sink) as service:
            client = service.client
            parent = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
            assert client.post("/score", files=IMAGE, headers=parent).status_code == 200
            assert client.post("/score-agi", files=IMAGE).status_code == 200
            images = [("images", IMAGE["image"])] * 2
            assert client.post("/score/batch", files=images).status_code == 200
            assert client.post("/score", files={"image": b"no image"}).status_code == 415
            client.get("/metrics")
        lines = [
            json.loads(line) for line in service.log.read_text().splitlines() if line[:1] == "{"
        ]
    return sink.spans, [line for line in lines if line["logger"] == "agiqa.access"]


def servers(spans: list[Span]) -> list[Span]:
    return [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]


def below(server: Span, spans: list[Span]) -> list[Span]:
    found = [span for span in spans if span.parent_span_id == server.span_id]
    assert all(span.trace_id == server.trace_id for span in found)
    return found


def attributes(span: Span) -> dict[str, Any]:
    values = {one.key: one.value for one in span.attributes}
    return {key: getattr(value, value.WhichOneof("value")) for key, value in values.items()}


def inferences(stages: list[Span]) -> list[dict[str, Any]]:
    return [attributes(stage) for stage in stages if stage.name == "inference"]


def of(path: str, exported: Any) -> tuple[Span, list[Span]]:
    """The server span of the first request to an address, and the spans of its stages."""
    spans, _ = exported
    named = [one for one in servers(spans) if one.name == f"POST {path}"]
    server = min(named, key=lambda one: one.start_time_unix_nano)
    return server, below(server, spans)


def test_a_request_has_one_span_and_its_stages_below_it_in_their_order(exported: Any) -> None:
    server, stages = of("/score", exported)
    assert list(dict.fromkeys(stage.name for stage in stages)) == STAGES
    begun = [stage.start_time_unix_nano for stage in stages]
    assert begun == sorted(begun)
    assert all(stage.start_time_unix_nano <= stage.end_time_unix_nano for stage in stages)
    # Within the request, but for what two clocks may differ.
    slack = 50_000_000
    assert begun[0] >= server.start_time_unix_nano - slack
    assert stages[-1].end_time_unix_nano <= server.end_time_unix_nano + slack


def test_a_stage_says_by_what_and_with_how_much_it_was_computed(exported: Any) -> None:
    _, stages = of("/score", exported)
    for about in map(attributes, stages):
        assert (about["agiqa.model"], about["agiqa.device"]) == ("tiny-clip-agiqa", "cpu")
    for about in inferences(stages):  # several, if it was split; alone it shares none of them
        assert about["agiqa.rows"] == about["agiqa.batch_rows"] > 0


def test_each_image_of_a_batch_call_has_its_stages(exported: Any) -> None:
    _, stages = of("/score/batch", exported)
    counts = Counter(stage.name for stage in stages)
    assert [counts[stage] for stage in ("read", "decode", "queue")] == [2, 2, 2]
    assert set(counts) == set(STAGES)
    _, alone = of("/score", exported)
    rows = sum(about["agiqa.rows"] for about in inferences(alone))
    assert sum(about["agiqa.rows"] for about in inferences(stages)) == 2 * rows


def test_a_trace_that_came_with_the_request_goes_on(exported: Any) -> None:
    server, _ = of("/score", exported)
    assert server.trace_id.hex() == TRACE
    assert server.parent_span_id.hex() == CALLER


def test_the_access_line_names_the_trace_also_of_a_request_that_came_without(exported: Any) -> None:
    spans, lines = exported
    assert len(lines) == 4
    assert {line["trace_id"] for line in lines} == {s.trace_id.hex() for s in servers(spans)}
    assert len({line["trace_id"] for line in lines}) == 4


def test_probes_and_scrapes_have_no_span(exported: Any) -> None:
    spans, _ = exported
    assert {one.name for one in servers(spans)} == {
        *("POST /score", "POST /score-agi", "POST /score/batch")
    }


def test_a_refusal_has_a_span_and_only_the_stage_that_it_came_to(exported: Any) -> None:
    spans, _ = exported
    (refused,) = [
        one for one in servers(spans) if attributes(one).get("http.response.status_code") == 415
    ]
    assert [stage.name for stage in below(refused, spans)] == ["read"]


@contextmanager
def silent() -> Iterator[str]:
    """The address of somebody who takes connections, and never answers."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        yield f"http://127.0.0.1:{one.getsockname()[1]}"


def test_a_collector_that_never_answers_does_not_hold_the_end_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = FakeDevice()

    def with_arena(_: WorkerSettings, arena: Arena) -> FakeDevice:
        device.arena = arena
        return device

    async def scenario() -> None:
        app = create_app(SETTINGS, device=with_arena, decoder=InProcessDecoder)
        lifespan = LifespanOn(uvicorn.Config(app))
        await lifespan.startup()
        await until(lambda: app.state.service.admission.state is State.READY)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = await client.post("/score", files=IMAGE)
            assert "inference" in answer.headers["server-timing"]
        await lifespan.shutdown()

    with silent() as address:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")
        run(scenario)


def test_the_service_has_its_name_unless_the_environment_gives_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(variable, raising=False)
    assert StageSpans().provider.resource.attributes["service.name"] == "agiqa"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "gallery")
    assert StageSpans().provider.resource.attributes["service.name"] == "gallery"


WITHOUT = """
import sys
from app.main import create_app
from app.settings import Settings
create_app(Settings(models=("tiny-clip-agiqa",), max_crop_mib=1))
print([name for name in sys.modules
       if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "app.http.spans"))])
"""


def test_without_an_endpoint_nothing_of_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
