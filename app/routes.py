"""The endpoints: forms in, answers out. What happens between is ``app.service``."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, File, Form, Query, Request, Response, Security, UploadFile
from fastapi.responses import JSONResponse

from app.admission import State
from app.catalogue import GENERATED, PHOTOGRAPHS, default_for, describe
from app.errors import BadField, ClientGone, ServiceError
from app.messages import LoadedModel
from app.problems import problem
from app.samples import BEARER, PROMPT, documented, problems
from app.schemas import AgiBatchAnswer, AgiScoreAnswer, BatchAnswer, ModelsAnswer, ScoreAnswer
from app.service import Scored, Service, Upload
from model.config import Head

T = TypeVar("T")
ModelParameter = Annotated[
    str | None, Query(alias="model", description="One of the loaded models; see GET /models.")
]
Detail = Annotated[bool, Query(description="Adds the quality of each window.")]
Image = Annotated[UploadFile, File(description="JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF.")]
Images = Annotated[
    list[UploadFile], File(description="At most 64 images, as repeated fields `images`.")
]
Prompt = Annotated[
    str | None,
    Form(description="The prompt that the image was generated from.", examples=[PROMPT]),
]
Prompts = Annotated[
    list[str] | None,
    Form(description="None, or one per image; an empty one is none.", examples=[[PROMPT, ""]]),
]

# /score computes quality alone; the second pass belongs to /score-agi, which computes all that the
# model has.
_QUALITY: tuple[Head, ...] = ("quality",)


def scoring(service: Service) -> APIRouter:
    """POST /score and /score-agi."""
    router = APIRouter(tags=["scores"], dependencies=[Security(BEARER)])

    @router.post(
        "/score",
        response_model=ScoreAnswer,
        response_model_exclude_unset=True,
        **documented("/score"),
    )
    async def score(
        request: Request, image: Image, model: ModelParameter = None, detail: Detail = False
    ) -> Any:
        """Quality of an image."""
        loaded = service.models.choose(model, PHOTOGRAPHS)
        upload = await _read(service, request, image)
        scored = await _unless_gone(
            request, service.score(upload, loaded, _QUALITY, _deadline(service, request))
        )
        return _score_answer(scored, detail=detail)

    @router.post(
        "/score-agi",
        response_model=AgiScoreAnswer,
        response_model_exclude_unset=True,
        **documented("/score-agi"),
    )
    async def score_agi(
        request: Request,
        image: Image,
        prompt: Prompt = None,
        model: ModelParameter = None,
        detail: Detail = False,
    ) -> Any:
        """Quality and alignment of a generated image, and its consistency with the prompt."""
        loaded = service.models.choose(model, GENERATED)
        upload = await _read(service, request, image, prompt)
        scored = await _unless_gone(
            request, service.score(upload, loaded, None, _deadline(service, request))
        )
        return _agi_answer(scored, detail=detail)

    return router


def batches(service: Service) -> APIRouter:
    """POST /score/batch and /score-agi/batch."""
    router = APIRouter(tags=["scores"], dependencies=[Security(BEARER)])

    @router.post(
        "/score/batch",
        response_model=BatchAnswer,
        response_model_exclude_unset=True,
        **documented("/score/batch"),
    )
    async def score_batch(
        request: Request, images: Images, model: ModelParameter = None, detail: Detail = False
    ) -> Any:
        """Quality of several images; a bad one does not keep the others from their scores."""
        loaded = service.models.choose(model, PHOTOGRAPHS)
        uploads = await _read_all(service, request, images, None)
        results = await _many(service, request, uploads, loaded, _QUALITY)
        items = [
            r if isinstance(r, ServiceError) else _score_answer(r, detail=detail) for r in results
        ]
        return _batch_answer(uploads, items)

    @router.post(
        "/score-agi/batch",
        response_model=AgiBatchAnswer,
        response_model_exclude_unset=True,
        **documented("/score-agi/batch"),
    )
    async def score_agi_batch(
        request: Request,
        images: Images,
        prompts: Prompts = None,
        model: ModelParameter = None,
        detail: Detail = False,
    ) -> Any:
        """All scores of several generated images."""
        loaded = service.models.choose(model, GENERATED)
        uploads = await _read_all(service, request, images, prompts)
        results = await _many(service, request, uploads, loaded, None)
        items = [
            r if isinstance(r, ServiceError) else _agi_answer(r, detail=detail) for r in results
        ]
        return _batch_answer(uploads, items)

    return router


def operations(service: Service) -> APIRouter:
    """GET /models, /livez, /readyz and /metrics."""
    router = APIRouter(tags=["operations"])

    @router.get(
        "/models",
        response_model=ModelsAnswer,
        dependencies=[Security(BEARER)],
        **documented("/models"),
    )
    async def models() -> Any:
        """What is loaded: method, backbone, training data, measured figures."""
        service.admission.require_open()
        return {"models": [_describe(m, service.models.defaults) for m in service.models]}

    @router.get("/livez", summary="Whether the process runs")
    async def livez() -> dict[str, str]:
        """The process runs; says nothing about the worker."""
        return {"status": "alive"}

    @router.get("/readyz", summary="Whether requests are taken", responses=problems(503))
    async def readyz() -> Any:
        """Requests are taken; 503 while loading, draining, or without a worker. A full queue is
        ready.
        """
        if service.admission.state is State.READY:
            return {"status": "ready"}
        service.admission.require_open()
        return JSONResponse({"status": service.admission.state.value}, 503)

    @router.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(
            service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    return router


async def _read(
    service: Service, request: Request, image: UploadFile, prompt: str | None = None
) -> Upload:
    data = await image.read()
    service.metrics.stages.labels("read").observe(time.monotonic() - request.scope["started"])
    return Upload(data, image.filename, (prompt or "").strip() or None)


async def _read_all(
    service: Service, request: Request, images: Sequence[UploadFile], prompts: Sequence[str] | None
) -> list[Upload]:
    most = service.settings.max_batch_images
    if len(images) > most:
        raise BadField(f"{len(images)} images; send at most {most} at once.")
    if prompts and len(prompts) != len(images):
        raise BadField(
            f"{len(prompts)} prompts for {len(images)} images; send none, or one per image."
        )
    asked = prompts or [""] * len(images)
    return [await _read(service, request, i, p) for i, p in zip(images, asked, strict=True)]


async def _many(
    service: Service,
    request: Request,
    uploads: Sequence[Upload],
    model: LoadedModel,
    heads: Sequence[Head] | None,
) -> list[Scored | ServiceError]:
    work = service.score_many(uploads, model, heads, _deadline(service, request))
    results = await _unless_gone(request, work)
    for result in results:
        if isinstance(result, ServiceError):
            service.metrics.failures.labels(result.reason).inc()
    return results


def _deadline(service: Service, request: Request) -> float:
    """When the answer is due: the default, or what X-Request-Timeout lowers it to, from the
    request's start.
    """
    seconds = service.settings.deadline_seconds
    if given := request.headers.get("x-request-timeout"):
        try:
            wanted = float(given)
        except ValueError:
            wanted = 0.0
        if not wanted > 0:
            raise BadField(f"The header X-Request-Timeout is {given!r}; give seconds above 0.")
        seconds = min(seconds, wanted)
    return float(request.scope["started"]) + seconds


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled as soon as the client closes the connection.

    Raises:
        ClientGone: it did.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        for pending in (task, gone):
            pending.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _common(scored: Scored, *, detail: bool) -> dict[str, Any]:
    score, config = scored.score, scored.model.config
    low, high = config.score_range.low, config.score_range.high
    quality = _round(score.quality) or 0.0
    common: dict[str, Any] = {
        "quality": quality,
        "mos": round(low + quality * (high - low), 4),
        "mos_range": (low, high),
        "crops": score.crops,
        "scaled": scored.scaled,
        "model": {"name": config.name, "revision": config.revision},
    }
    if detail:
        pairs = zip(scored.boxes, score.crop_quality or (), strict=False)
        common["crop_scores"] = [{"box": box, "score": _round(value)} for box, value in pairs]
    return common


def _score_answer(scored: Scored, *, detail: bool) -> dict[str, Any]:
    return _common(scored, detail=detail) | {
        "scene": _round_all(scored.score.scene),
        "distortion": _round_all(scored.score.distortion),
        "attributes": _round_all(scored.score.attributes),
    }


def _agi_answer(scored: Scored, *, detail: bool) -> dict[str, Any]:
    heads = {
        "alignment": _round(scored.score.alignment),
        "consistency": _round(scored.score.consistency),
    }
    return _common(scored, detail=detail) | heads


def _batch_answer(
    uploads: Sequence[Upload], items: Sequence[dict[str, Any] | ServiceError]
) -> dict[str, Any]:
    answers = [problem(item) if isinstance(item, ServiceError) else item for item in items]
    return {
        "results": [
            {"filename": u.filename} | item for u, item in zip(uploads, answers, strict=True)
        ]
    }


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _round_all(values: Mapping[str, float] | None) -> dict[str, float] | None:
    return None if values is None else {name: round(value, 6) for name, value in values.items()}


def _describe(model: LoadedModel, defaults: Mapping[str, str]) -> dict[str, Any]:
    endpoints = default_for(model.config.name, defaults)
    described = describe(model.config, model.policy, endpoints)
    return described | {"device": model.device, "dtype": model.dtype}
