"""The trace that a request is part of: the header ``traceparent`` of W3C Trace Context, or the span
that FastAPI makes of it where there is somebody to export it to.
"""

import os
import re
from typing import Protocol

from starlette.datastructures import Headers

from app.http.request_state import RequestState

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_IDS = "(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
# Versions to come may add fields behind a dash; ff is none.
_TRACEPARENT = re.compile(f"(?:00-{_IDS}|(?!00|ff)[0-9a-f]{{2}}-{_IDS}(?:-.*)?)")


def trace_of(headers: Headers) -> str | None:
    """The id of the trace; None where there is no such header, several, or one that is not formed
    as the standard says, which then counts for nothing.
    """
    sent = headers.getlist("traceparent")
    found = _TRACEPARENT.fullmatch(sent[0]) if len(sent) == 1 else None
    return found and (found[1] or found[2])


class Spans(Protocol):
    """The span of the request under way, and those of its stages."""

    def trace(self) -> str | None:
        """The id of its trace; None where it has no span."""

    def add_stages(self, state: RequestState) -> None:
        """Makes spans of the stages of its images."""


def exported_spans() -> Spans | None:
    """What makes them, if OpenTelemetry's variables name an endpoint; else nothing is imported."""
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return None
    from app.http.spans import StageSpans

    return StageSpans()
