"""The trace that a request is part of: the header ``traceparent`` of W3C Trace Context."""

import re

from starlette.datastructures import Headers

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
