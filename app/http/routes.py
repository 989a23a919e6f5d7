"""The endpoints: forms in, answers out. What happens between is ``app.service``."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, File, Form, Query, Request, Response, UploadFile

from app.batching.errors import BadField, ClientGone, ServiceError
from app.batching.jobs import Stages
from app.catalogue import GENERATED, PHOTOGRAPHS, default_for, describe
from app.device.messages import LoadedModel
from app.http.forms import UploadRoute
from app.http.keys import Keys, required
from app.http.openapi import PROMPT, documented
from app.http.request_state import allowed_seconds, state_of
from app.http.schemas import (
    AgiBatchAnswer,
    AgiScoreAnswer,
    AgiScoreItem,
    BatchAnswer,
    ModelDescription,
    ModelsAnswer,
    Problem,
    ScoreAnswer,
    ScoreItem,
)
from app.scoring import Scored
from app.service import Service
from app.uploads import Upload
from model.config import Head

T = TypeVar("T")
Item = TypeVar("Item", ScoreItem, AgiScoreItem)
ModelParameter = Annotated[
    str | None, Query(alias="model", description="One of the loaded models; see GET /models.")
]
Detail = Annotated[bool, Query(description="Adds the quality of each window.")]
Image = Annotated[UploadFile, File(description="JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF.")]
Images = Annotated[
    list[UploadFile],
    File(description="Images, as repeated fields `images`; at most 64 if not set otherwise."),
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
_HEADS: dict[str, tuple[Head, ...] | None] = {PHOTOGRAPHS: ("quality",), GENERATED: None}


def scoring(service: Service, keys: Keys) -> APIRouter:
    """POST /score and /score-agi."""
    key = required(keys)
    router = APIRouter(route_class=UploadRoute, tags=["scores"], dependencies=[Depends(key)])

    @router.post("/score", response_model_exclude_unset=True, **documented("/score"))
    async def score(
        request: Request, image: Image, model: ModelParameter = None, detail: Detail = False
    ) -> ScoreAnswer:
        """Quality of an image."""
        scored = await _score(service, request, PHOTOGRAPHS, model, image)
        return ScoreAnswer.of(scored, detail=detail)

    @router.post("/score-agi", response_model_exclude_unset=True, **documented("/score-agi"))
    async def score_agi(
        request: Request,
        image: Image,
        prompt: Prompt = None,
        model: ModelParameter = None,
        detail: Detail = False,
    ) -> AgiScoreAnswer:
        """Quality and alignment of a generated image, and its consistency with the prompt."""
        scored = await _score(service, request, GENERATED, model, image, prompt)
        return AgiScoreAnswer.of(scored, detail=detail)

    return router


def batches(service: Service, keys: Keys) -> APIRouter:
    """POST /score/batch and /score-agi/batch."""
    key = required(keys)
    router = APIRouter(route_class=UploadRoute, tags=["scores"], dependencies=[Depends(key)])

    @router.post("/score/batch", response_model_exclude_unset=True, **documented("/score/batch"))
    async def score_batch(
        request: Request, images: Images, model: ModelParameter = None, detail: Detail = False
    ) -> BatchAnswer:
        """Quality of several images; a bad one does not keep the others from their scores."""
        results = await _score_all(service, request, PHOTOGRAPHS, model, images)
        return BatchAnswer(results=_items(ScoreItem, images, results, detail=detail))

    @router.post(
        "/score-agi/batch", response_model_exclude_unset=True, **documented("/score-agi/batch")
    )
    async def score_agi_batch(
        request: Request,
        images: Images,
        prompts: Prompts = None,
        model: ModelParameter = None,
        detail: Detail = False,
    ) -> AgiBatchAnswer:
        """All scores of several generated images."""
        results = await _score_all(service, request, GENERATED, model, images, prompts)
        return AgiBatchAnswer(results=_items(AgiScoreItem, images, results, detail=detail))

    return router


def operations(service: Service, keys: Keys) -> APIRouter:
    """GET /models and /metrics."""
    key = required(keys)
    router = APIRouter(tags=["operations"])

    @router.get("/models", dependencies=[Depends(key)], **documented("/models"))
    async def models() -> ModelsAnswer:
        """What is loaded: method, backbone, training data, measured figures."""
        service.admission.require_open()
        defaults = service.models.defaults
        return ModelsAnswer(models=[description(m, defaults) for m in service.models])

    @router.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(
            service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    return router


async def _score(
    service: Service,
    request: Request,
    endpoint: str,
    model: str | None,
    image: UploadFile,
    prompt: str | None = None,
) -> Scored:
    loaded = service.models.choose(model, endpoint)
    state = state_of(request.scope)
    state.model, state.device = loaded.config.name, loaded.device
    upload = await _read(service, request, image, prompt)
    work = service.scoring.score(upload, loaded, _HEADS[endpoint], _deadline(service, request))
    scored = await _unless_gone(request, work)
    state.crops = scored.score.crops
    return scored


async def _read(
    service: Service, request: Request, image: UploadFile, prompt: str | None
) -> Upload:
    data = await image.read()
    state = state_of(request.scope)
    seconds = time.monotonic() - state.started
    service.metrics.stages.labels("read").observe(seconds)
    stages = Stages()
    stages.note("read", state.started, seconds)
    state.stages.append(stages)
    sender = state.sender(request.headers)
    prompt = (prompt or "").strip() or None
    return Upload(data, image.filename, prompt, sender, state.place, stages)


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
    pairs = zip(images, prompts or [""] * len(images), strict=True)
    return [await _read(service, request, image, prompt) for image, prompt in pairs]


async def _score_all(
    service: Service,
    request: Request,
    endpoint: str,
    model: str | None,
    images: Sequence[UploadFile],
    prompts: Sequence[str] | None = None,
) -> list[Scored | ServiceError]:
    loaded = service.models.choose(model, endpoint)
    state = state_of(request.scope)
    state.model, state.device = loaded.config.name, loaded.device
    uploads = await _read_all(service, request, images, prompts)
    work = service.scoring.score_many(
        uploads,
        loaded,
        _HEADS[endpoint],
        _deadline(service, request),
        state.sender(request.headers),
    )
    results = await _unless_gone(request, work)
    for result in results:
        if isinstance(result, ServiceError):
            service.metrics.failures.labels(result.reason).inc()
    state.crops = sum(r.score.crops for r in results if isinstance(r, Scored))
    return results


def _items(
    kind: type[Item],
    images: Sequence[UploadFile],
    results: Sequence[Scored | ServiceError],
    *,
    detail: bool,
) -> list[Item | Problem]:
    return [
        Problem.of(result, image.filename)
        if isinstance(result, ServiceError)
        else kind.of(result, detail=detail, filename=image.filename)
        for image, result in zip(images, results, strict=True)
    ]


def _deadline(service: Service, request: Request) -> float:
    """When the answer is due."""
    seconds = allowed_seconds(request.headers, service.settings.deadline_seconds)
    return state_of(request.scope).started + seconds


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


def description(model: LoadedModel, defaults: Mapping[str, str]) -> ModelDescription:
    """A loaded model, as GET /models shows it."""
    described = describe(model.config, model.policy, default_for(model.config.name, defaults))
    return ModelDescription(device=model.device, dtype=model.dtype, **described)
