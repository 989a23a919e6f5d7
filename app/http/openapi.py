"""What the OpenAPI page shows beside each endpoint: examples, headers, and calls to copy.

``python -m tests.client.record_openapi_examples`` records the answers in openapi_examples.json from
the real service; tests/client/test_openapi_samples.py runs every call and holds every example.
"""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi.security import HTTPBearer

from app.batching import errors
from app.batching.fairness import Priority
from app.http.problems import MEDIA_TYPE, problem

RECORDED = Path(__file__).parent / "openapi_examples.json"
REQUEST_ID = "render-42/frame-7"
PROMPT = "a cup of coffee on a wooden table"
BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="bearer",
    description="Where the service was given keys (AGIQA_API_KEYS, AGIQA_KEYS_FILE); without them "
    "none is needed.",
)

ADMIN = HTTPBearer(
    auto_error=False,
    scheme_name="admin",
    description="A key of operators (AGIQA_ADMIN_KEYS); other keys do not do.",
)

# FastAPI leaves null fields out of examples.
_NOTE = (
    "Of the bundled models in float32; in bfloat16 these scores differ by at most 0.003. "
    "Fields that are null are left out here."
)
_SUMMARIES = {
    "/score": "Quality of an image",
    "/score-agi": "Quality, alignment and consistency of a generated image",
    "/score/batch": "Quality of several images",
    "/score-agi/batch": "All scores of several generated images",
    "/models": "What is loaded",
}
_HEADERS: dict[str, Any] = {
    "X-Request-ID": {
        "description": "The request's id: the one that was sent, or a new one. The log has it.",
        "schema": {"type": "string"},
    }
}
_SERVER_TIMING: dict[str, Any] = {
    "Server-Timing": {
        "description": "Milliseconds of each stage: read, decode, queue, inference, reduce; and "
        "cache, where the service keeps scores.",
        "schema": {"type": "string"},
    }
}
_RETRY_AFTER = {
    "description": "Seconds, from the measured rate, after which to ask again.",
    "schema": {"type": "integer", "minimum": 1},
}
_CHALLENGE = {"description": "`Bearer`.", "schema": {"type": "string"}}
_REQUEST_ID = {
    "name": "X-Request-ID",
    "in": "header",
    "required": False,
    "description": "An id of yours: letters, digits and `_.:/+=-`, at most 128. The answer, its "
    "problem object and the log carry it; without one the service makes one.",
    "schema": {"type": "string", "maxLength": 128},
    "example": REQUEST_ID,
}
_TIMEOUT = {
    "name": "X-Request-Timeout",
    "in": "header",
    "required": False,
    "description": "Seconds that the answer may take; lowers the service's own deadline, and never "
    "raises it. When they are over the answer is 504, and work that has not begun is dropped.",
    "schema": {"type": "number", "exclusiveMinimum": 0},
    "example": 2.5,
}
_PRIORITY = {
    "name": "X-Priority",
    "in": "header",
    "required": False,
    "description": "Whether somebody waits for the answer, or a program for many of them; without "
    "it batch calls are bulk, single images interactive. While both wait, interactive goes first, "
    "and a quarter of the device is bulk's.",
    "schema": {"type": "string", "enum": list(Priority)},
    "example": str(Priority.BULK),
}

# Beside the form, for which FastAPI writes the schema.
_RAW_BODY: dict[str, Any] = {
    "content": {
        "image/*": {
            "schema": {
                "type": "string",
                "format": "binary",
                "description": "The image alone, without a form around it.",
            }
        }
    }
}
_RAW = frozenset({"/score", "/score-agi"})

# The errors that a client can meet; those that a recorded request meets are described in its words.
_ERRORS: tuple[type[errors.ServiceError], ...] = (
    errors.InvalidImage,
    errors.Unauthorized,
    errors.Forbidden,
    errors.ReloadFailed,
    errors.UnknownModel,
    errors.TooLarge,
    errors.UnsupportedFormat,
    errors.BadField,
    errors.BadAspectRatio,
    errors.Quarantined,
    errors.Overloaded,
    errors.InferenceFailed,
    errors.Internal,
    errors.Loading,
    errors.Draining,
    errors.WorkerDown,
    errors.DeadlineExceeded,
)


_FOR_OPERATORS = {errors.Forbidden, errors.ReloadFailed}


@functools.cache
def recorded() -> dict[str, Any]:
    """What the page shows of the bundled models in float32: ``answers`` and code ``samples`` by
    path, and ``refusals``, sentences by code.
    """
    content: dict[str, Any] = json.loads(RECORDED.read_text())
    return content


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's responses of these error statuses."""
    sentences = recorded()["refusals"]
    found = [kind(sentences.get(kind.code)) for kind in _ERRORS]
    return {status: _problem([e for e in found if e.status == status]) for status in statuses}


def _problem(same_status: Sequence[errors.ServiceError]) -> dict[str, Any]:
    headers = dict(_HEADERS)
    if isinstance(same_status[0], errors.Unavailable):
        headers["Retry-After"] = _RETRY_AFTER
    if isinstance(same_status[0], errors.Unauthorized):
        headers["WWW-Authenticate"] = _CHALLENGE
    examples = {
        error.code: {
            "summary": error.title,
            "value": problem(error) | {"request_id": REQUEST_ID},
        }
        for error in same_status
    }
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": " or ".join(error.title for error in same_status),
        "headers": headers,
        "content": {MEDIA_TYPE: {"schema": schema, "examples": examples}},
    }


def documented(path: str) -> dict[str, Any]:
    """Arguments of the route at ``path`` that only document it."""
    examples = {
        name: {"description": _NOTE, "value": answer}
        for name, answer in recorded()["answers"].get(path, {}).items()
    }
    scoring = path != "/models"
    headers = _HEADERS | _SERVER_TIMING if scoring else _HEADERS
    answered = {"headers": headers, "content": {"application/json": {"examples": examples}}}
    ours = {kind.status for kind in _ERRORS if kind not in _FOR_OPERATORS}
    statuses = sorted(ours) if scoring else (401, 503)
    return {
        "summary": _SUMMARIES[path],
        "responses": {200: answered} | problems(*statuses),
        "openapi_extra": {
            "parameters": [_TIMEOUT, _PRIORITY, _REQUEST_ID] if scoring else [_REQUEST_ID],
            # With the bearer scheme of the router: a key, or none.
            "security": [{}],
            **({"requestBody": _RAW_BODY} if path in _RAW else {}),
            "x-codeSamples": [
                sample | {"source": "\n".join(sample["source"])}
                for sample in recorded()["samples"][path]
            ],
        },
    }
