"""Spans of a request's stages, below the server span that FastAPI makes of it (OpenTelemetry)."""

import time

from opentelemetry import trace

from app.http.request_state import RequestState


class StageSpans:
    """Made when the request is over, from times that were noted on the way."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer("agiqa")

    def trace(self) -> str | None:
        """The id of the trace of the current span."""
        context = trace.get_current_span().get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else None

    def add_stages(self, state: RequestState) -> None:
        """Below the current span, if that is sampled."""
        if not trace.get_current_span().get_span_context().trace_flags.sampled:
            return
        epoch = time.time_ns() - time.monotonic_ns()
        about: dict[str, str | int] = {
            "agiqa.model": state.model or "",
            "agiqa.device": state.device or "",
        }
        for stages in state.stages:
            for stage, beginning, end, known in stages.intervals:
                attributes = about | {f"agiqa.{name}": count for name, count in known.items()}
                start = epoch + int(beginning * 1e9)
                span = self._tracer.start_span(stage, start_time=start, attributes=attributes)
                span.end(epoch + int(end * 1e9))
