"""Spans of a request's stages, below the server span that FastAPI makes of it (OpenTelemetry)."""

import threading
import time

from opentelemetry import trace
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider

from app.http.request_state import RequestState

# What a collector that does not answer may add to the end of the service; by itself the exporter
# tries for ten seconds, and that for each 512 spans.
CLOSE_SECONDS = 2.0


class StageSpans:
    """Made when the request is over, from times that were noted on the way.

    ``provider`` is for FastAPI too, which adds the exporter that the environment describes.
    """

    def __init__(self) -> None:
        # What the environment says of the resource outranks our name.
        name = Resource.create({"service.name": "agiqa"})
        resource = name.merge(OTELResourceDetector().detect())
        self.provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._tracer = self.provider.get_tracer("agiqa")

    def close(self) -> None:
        """Exports what is left, and waits for it for ``CLOSE_SECONDS`` at most."""
        ending = threading.Thread(target=self.provider.shutdown, daemon=True)
        ending.start()
        ending.join(CLOSE_SECONDS)

    def trace(self) -> str | None:
        """The id of the trace of the current span."""
        context = trace.get_current_span().get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else None

    def add_stages(self, state: RequestState) -> None:
        """Below the current span, if that is sampled."""
        if not trace.get_current_span().get_span_context().trace_flags.sampled:
            return
        epoch = time.time_ns() - time.monotonic_ns()
        for stages in state.stages:
            about: dict[str, str | int] = {
                "agiqa.model": state.model or "",
                "agiqa.device": stages.device or state.device or "",
            }
            for stage, beginning, end, known in stages.intervals:
                attributes = about | {f"agiqa.{name}": count for name, count in known.items()}
                start = epoch + int(beginning * 1e9)
                span = self._tracer.start_span(stage, start_time=start, attributes=attributes)
                span.end(epoch + int(end * 1e9))
