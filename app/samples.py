"""What the OpenAPI page shows beside each endpoint: examples, headers, and calls to copy.

tests/client/test_openapi_samples.py runs every call and holds every example.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from fastapi.security import HTTPBearer

from app import errors
from app.problems import MEDIA_TYPE, problem
from model.errors import ImageError
from model.images import check_size, read_header

HOST = "http://localhost:8000"
PROMPT = "a cup of coffee on a wooden table"
BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="bearer",
    description="Where the service was given keys (AGIQA_API_KEYS); without them none is needed.",
)

# Measured on scikit-image's pictures: photo.jpg is its astronaut, generated.jpg its cup of coffee.
_SCENE = {
    "animal": 0.026978,
    "cityscape": 0.026617,
    "human": 0.104979,
    "indoor scene": 0.24959,
    "landscape": 0.006009,
    "night scene": 0.029554,
    "plant": 0.066288,
    "still-life": 0.472394,
    "others": 0.01759,
}
_DISTORTION = {
    "blur": 0.15493,
    "color-related": 0.147798,
    "contrast": 0.002637,
    "JPEG compression": 0.315803,
    "JPEG2000 compression": 0.085204,
    "noise": 0.004931,
    "over-exposure": 0.020311,
    "quantization": 0.041563,
    "under-exposure": 0.043024,
    "spatially-localized": 0.023031,
    "others": 0.160768,
}
_SCORE: dict[str, Any] = {
    "quality": 0.781293,
    "mos": 78.1293,
    "mos_range": [0.0, 100.0],
    "crops": 9,
    "scaled": False,
    "model": {"name": "tiny-mpiqe", "revision": "fd08b61e3007"},
    "scene": _SCENE,
    "distortion": _DISTORTION,
    "attributes": None,
}
_AGI_SCORE: dict[str, Any] = {
    "quality": 0.639356,
    "mos": 3.1968,
    "mos_range": [0.0, 5.0],
    "crops": 12,
    "scaled": False,
    "model": {"name": "tiny-clip-agiqa", "revision": "e38a9fc14df0"},
    "alignment": 0.595829,
    "consistency": 0.607604,
}
_MODEL = {
    "name": "tiny-clip-agiqa",
    "revision": "e38a9fc14df0",
    "method": "clip-agiqa",
    "backbone": "own",
    "trained_on": ["AGIQA-3K", "LIVE-Challenge"],
    "metrics": {"srcc": 0.7814, "quality_srcc": 0.7814, "quality_plcc": 0.8371},
    "score_range": [0.0, 5.0],
    "crop_policy": {
        "kind": "grid",
        "size": 224,
        "stride": 144,
        "max_side": 1024,
        "max_windows": 64,
        "seed": 0,
        "global_view": True,
    },
    "heads": ["quality", "alignment", "consistency"],
    "default_for": ["/score-agi"],
    "device": "cpu",
    "dtype": "float32",
}

_HEADERS: dict[str, Any] = {
    "X-Request-ID": {
        "description": "The request's id: the one that was sent, or a new one. The log has it.",
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
    "example": "render-42/frame-7",
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


def _said(check: Callable[..., object], *arguments: Any) -> str:
    """The sentence with which a check of images refuses."""
    try:
        check(*arguments)
    except ImageError as error:
        return str(error)
    raise ValueError(f"{check.__name__}{arguments} refuses nothing")


@functools.cache
def refusals() -> dict[int, list[errors.ServiceError]]:
    """Errors that a client can meet, by status, with the sentences that the service says."""
    return {
        400: [errors.InvalidImage(_said(read_header, b""))],
        401: [errors.Unauthorized()],
        404: [
            errors.UnknownModel(
                "No model 'x' is loaded; choose one of tiny-mpiqe, tiny-clip-agiqa."
            )
        ],
        413: [errors.TooLarge(_said(check_size, 20_000, 10_000))],
        415: [errors.UnsupportedFormat(_said(read_header, b"no image"))],
        422: [
            errors.BadField("2 prompts for 3 images; send none, or one per image."),
            errors.BadAspectRatio(_said(check_size, 5200, 100)),
        ],
        429: [errors.Overloaded()],
        500: [errors.InferenceFailed(), errors.Internal()],
        503: [errors.Loading(), errors.Draining(), errors.WorkerDown()],
        504: [errors.DeadlineExceeded()],
    }


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's responses of these error statuses."""
    known = refusals()
    return {status: _problem(known[status]) for status in statuses}


def _problem(kinds: Sequence[errors.ServiceError]) -> dict[str, Any]:
    headers = dict(_HEADERS)
    if isinstance(kinds[0], errors.Unavailable):
        headers["Retry-After"] = _RETRY_AFTER
    if isinstance(kinds[0], errors.Unauthorized):
        headers["WWW-Authenticate"] = _CHALLENGE
    examples = {
        kind.code: {"summary": kind.title, "value": _with_id(problem(kind))} for kind in kinds
    }
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": " or ".join(kind.title for kind in kinds),
        "headers": headers,
        "content": {MEDIA_TYPE: {"schema": schema, "examples": examples}},
    }


def _with_id(problem_object: dict[str, Any]) -> dict[str, Any]:
    return problem_object | {"request_id": _REQUEST_ID["example"]}


def documented(path: str) -> dict[str, Any]:
    """Arguments of the route at ``path`` that only document it."""
    summary, answers, samples, batch = _PAGES[path]
    known = refusals()
    bad = _with_id({"filename": "notes.txt"} | problem(known[415][0]))
    examples = {
        name: {
            # FastAPI leaves null fields out of examples.
            "description": "Fields that are null are left out here.",
            "value": {"results": [{"filename": "photo.jpg"} | answer, bad]} if batch else answer,
        }
        for name, answer in answers.items()
    }
    answered = {"headers": _HEADERS, "content": {"application/json": {"examples": examples}}}
    scoring = path != "/models"
    statuses = tuple(known) if scoring else (401, 503)
    return {
        "summary": summary,
        "responses": {200: answered} | problems(*statuses),
        "openapi_extra": {
            "parameters": [_TIMEOUT, _REQUEST_ID] if scoring else [_REQUEST_ID],
            # With the bearer scheme of the router: a key, or none.
            "security": [{}],
            "x-codeSamples": [
                {"lang": lang, "label": label, "source": source} for lang, label, source in samples
            ],
        },
    }


def _python(*lines: str) -> str:
    head = ("from agiqa_client import Client", "", f'with Client("{HOST}") as client:')
    return "\n".join((*head, *(f"    {line}" for line in lines)))


def _curl(*arguments: str) -> str:
    return " \\\n  ".join(("curl", *arguments))


_SCORE_SAMPLES = [
    ("Shell", "curl", _curl("-F image=@photo.jpg", f"{HOST}/score")),
    (
        "Shell",
        "curl: the quality of every window, within 2.5 seconds, with a key",
        _curl(
            "-H 'Authorization: Bearer KEY'",
            "-H 'X-Request-Timeout: 2.5'",
            "-F image=@photo.jpg",
            f"'{HOST}/score?detail=true'",
        ),
    ),
    (
        "Python",
        "Python",
        _python(
            'score = client.score("photo.jpg")', "print(score.quality, score.mos, score.scene)"
        ),
    ),
    (
        "Python",
        "Python: the worst window, within 5 seconds",
        _python(
            'score = client.score("photo.jpg", detail=True, deadline=5)',
            "print(min(score.crop_scores, key=lambda crop: crop.score).box)",
        ),
    ),
]
_AGI_SAMPLES = [
    (
        "Shell",
        "curl",
        _curl("-F image=@generated.jpg", f"-F prompt='{PROMPT}'", f"{HOST}/score-agi"),
    ),
    (
        "Python",
        "Python",
        _python(
            f'score = client.score_agi("generated.jpg", "{PROMPT}")',
            "print(score.quality, score.alignment, score.consistency)",
        ),
    ),
]
_BATCH_SAMPLES = [
    (
        "Shell",
        "curl",
        _curl("-F images=@photo.jpg", "-F images=@generated.jpg", f"{HOST}/score/batch"),
    ),
    (
        "Python",
        "Python",
        _python(
            'for result in client.score_batch(["photo.jpg", "generated.jpg"]):',
            '    print(getattr(result, "quality", result))',
        ),
    ),
]
_AGI_BATCH_SAMPLES = [
    (
        "Shell",
        "curl: one prompt per image, the second has none",
        _curl(
            "-F images=@generated.jpg",
            f"-F prompts='{PROMPT}'",
            "-F images=@photo.jpg",
            "-F prompts=",
            f"{HOST}/score-agi/batch",
        ),
    ),
    (
        "Python",
        "Python",
        _python(
            f'prompts = ["{PROMPT}", None]',
            'images = ["generated.jpg", "photo.jpg"]',
            "for result in client.score_agi_batch(images, prompts):",
            '    print(getattr(result, "consistency", result))',
        ),
    ),
]
_MODELS_SAMPLES = [
    ("Shell", "curl", _curl(f"{HOST}/models")),
    (
        "Python",
        "Python",
        _python("for model in client.models():", "    print(model.name, model.heads)"),
    ),
]
_Page = tuple[str, dict[str, Any], Sequence[tuple[str, str, str]], bool]
_PAGES: dict[str, _Page] = {
    "/score": ("Quality of an image", {"photograph": _SCORE}, _SCORE_SAMPLES, False),
    "/score-agi": (
        "Quality, alignment and consistency of a generated image",
        {"with a prompt": _AGI_SCORE, "without": _AGI_SCORE | {"consistency": None}},
        _AGI_SAMPLES,
        False,
    ),
    "/score/batch": ("Quality of several images", {"one is none": _SCORE}, _BATCH_SAMPLES, True),
    "/score-agi/batch": (
        "All scores of several generated images",
        {"one is none": _AGI_SCORE},
        _AGI_BATCH_SAMPLES,
        True,
    ),
    "/models": ("What is loaded", {"one model": {"models": [_MODEL]}}, _MODELS_SAMPLES, False),
}
