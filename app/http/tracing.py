"""The trace that a request is part of: the header ``traceparent`` of W3C Trace Context, or the span
that FastAPI makes of it where there is somebody to export it to.
"""

import logging
import os
import re
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

if TYPE_CHECKING:
    from app.http.spans import StageSpans

logger = logging.getLogger(__name__)

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


def exported_spans() -> "StageSpans | None":
    """What makes them, if OpenTelemetry's variables name an endpoint; else nothing is imported."""
    named = [name for name in _ENDPOINTS if os.environ.get(name)]
    if not named:
        return None
    try:
        from app.http.spans import StageSpans
    except ImportError:
        logger.warning("%s is set, but no traces are made: pip install 'agiqa[otel]'", named[0])
        return None
    return StageSpans()
