"""Structured logs: one JSON object a line, with the id of the request that the line belongs to."""

import faulthandler
import json
import logging
import signal
import sys
import time
from contextvars import ContextVar

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
# Of the client's trace, where its request is part of one.
trace_id: ContextVar[str | None] = ContextVar("trace_id", default=None)

# Attributes that every LogRecord has; what a call passes as ``extra`` is everything else.
_STANDARD = set(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}


class JsonFormatter(logging.Formatter):
    """time, level, logger, message, request_id, trace_id, then the call's ``extra``; exceptions as
    text.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if current := request_id.get():
            line["request_id"] = current
        if trace := trace_id.get():
            line["trace_id"] = trace
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def shown_as(form: str) -> str:
    """``json`` or ``text``: ``auto`` is text where a person reads along, on a terminal."""
    if form != "auto":
        return form
    return "text" if sys.stderr.isatty() else "json"


def configure(level: str, form: str) -> None:
    """Sends every logger of this process to stderr, as ``auto``, ``json`` or ``text``."""
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if shown_as(form) == "json" else plain)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Its lines on starting and ending say less than our own.
    logging.getLogger("uvicorn").setLevel("DEBUG" if level == "debug" else "WARNING")
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = (
            name != "uvicorn.access"
        )  # the access line is our own, with the request id


def dump_stacks_on_faults() -> None:
    """From now on a crash in C code, and SIGUSR1, write the stack of every thread to stderr."""
    faulthandler.enable(sys.__stderr__ or sys.stderr)
    if hasattr(faulthandler, "register"):  # not on Windows
        faulthandler.register(signal.SIGUSR1, sys.__stderr__ or sys.stderr, all_threads=True)
