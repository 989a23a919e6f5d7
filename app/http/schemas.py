"""What the service answers, as pydantic models: the OpenAPI page is made from them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field

from app.batching.errors import ServiceError, Unavailable
from app.http.problems import problem

if TYPE_CHECKING:
    from app.scoring import Scored

Unit = Annotated[float, Field(ge=0, le=1)]


class ModelName(BaseModel):
    """Which model gave the scores."""

    name: str
    revision: str


class CropScore(BaseModel):
    """Quality of one window; ``box`` is [x, y, width, height] in pixels of the upright original."""

    box: tuple[int, int, int, int]
    score: Unit


class _Answer(BaseModel):
    model_config = ConfigDict(protected_namespaces=())
    # The fields of a Score that this answer adds to its quality; null where the model lacks them.
    heads: ClassVar[tuple[str, ...]]

    quality: Unit = Field(description="Quality, high = better.")
    mos: float = Field(
        description="Quality on the scale of the opinion scores that the model learned from."
    )
    mos_range: tuple[float, float]
    crops: int = Field(description="Windows that cover the image.")
    scaled: bool = Field(
        description="Whether the windows saw the image at another than its native size."
    )
    model: ModelName
    crop_scores: list[CropScore] | None = Field(default=None, description="With ?detail=true.")

    @classmethod
    def of(cls, scored: "Scored", *, detail: bool, **upload: str | None) -> Self:
        """The answer for an image, rounded; ``crop_scores`` stays unset without ``detail``, and the
        answer's own ``detail`` where there is nothing to say.

        Args:
            scored: the score, and how it came about.
            detail: adds the quality of each window.
            upload: ``filename``, for an item of a batch.
        """
        score, config = scored.score, scored.model.config
        low, high = config.score_range.low, config.score_range.high
        quality = round(score.quality or 0.0, 6)
        values = {
            "quality": quality,
            "mos": round(low + quality * (high - low), 4),
            "mos_range": (low, high),
            "crops": score.crops,
            "scaled": scored.scaled,
            "model": ModelName(name=config.name, revision=config.revision),
        }
        if detail:
            pairs = zip(scored.boxes, score.crop_quality or (), strict=False)
            values["crop_scores"] = [
                CropScore(box=box, score=round(value, 6)) for box, value in pairs
            ]
        if score.detail:
            values["detail"] = score.detail
        values |= {head: _rounded(getattr(score, head)) for head in cls.heads}
        return cls.model_validate(values | upload)


class ScoreAnswer(_Answer):
    """Answer of POST /score; scene, distortion and attributes are null for models that don't tell
    them.
    """

    heads = ("scene", "distortion", "attributes")

    scene: dict[str, Unit] | None = Field(
        default=None, description="Probability of each kind of scene, by name."
    )
    distortion: dict[str, Unit] | None = Field(
        default=None, description="Probability of each kind of distortion, by name."
    )
    attributes: dict[str, Unit] | None = Field(
        default=None,
        description="How bright, sharp ... the image is, by name: the probability of the first "
        "word of a pair of antonyms.",
    )


class AgiScoreAnswer(_Answer):
    """Answer of POST /score-agi; consistency is null without a prompt, and both are for models that
    don't tell them.
    """

    heads = ("alignment", "consistency")

    alignment: Unit | None = None
    consistency: Unit | None = None
    detail: str | None = Field(
        default=None,
        description="A sentence, where there is something to be known of these scores: that the "
        "prompt has no word that the model knows, so that consistency is alignment. Absent "
        "otherwise.",
    )


class Problem(BaseModel):
    """RFC 9457 problem; ``code`` is stable."""

    filename: str | None = Field(default=None, description="Of an upload, in a batch's answer.")
    type: str
    title: str
    status: int
    detail: str = Field(description="One sentence that says what to do.")
    code: str
    request_id: str | None = None
    retry_after: int | None = Field(
        default=None,
        description="Seconds after which to send this upload again, in a batch's answer; other "
        "answers have it in the header Retry-After.",
    )

    @classmethod
    def of(cls, error: ServiceError, filename: str | None) -> Self:
        """The problem of one upload of a batch."""
        later = {"retry_after": error.come_back_in()} if isinstance(error, Unavailable) else {}
        return cls(filename=filename, **problem(error), **later)


class _Upload(BaseModel):
    filename: str | None = Field(description="As it was uploaded.")


class ScoreItem(ScoreAnswer, _Upload):
    """The answer for one upload of POST /score/batch."""


class AgiScoreItem(AgiScoreAnswer, _Upload):
    """The answer for one upload of POST /score-agi/batch."""


class BatchAnswer(BaseModel):
    """One item per upload, in order: the single answer, or a problem, plus ``filename``."""

    results: list[ScoreItem | Problem]


class AgiBatchAnswer(BaseModel):
    """One item per upload, in order: the single answer, or a problem, plus ``filename``."""

    results: list[AgiScoreItem | Problem]


class ModelDescription(BaseModel):
    """One loaded model, as GET /models describes it."""

    name: str
    revision: str
    method: str
    backbone: str
    trained_on: list[str]
    metrics: dict[str, float]
    score_range: tuple[float, float]
    crop_policy: dict[str, Any]
    heads: list[str]
    default_for: list[str]
    sealed: bool
    device: str
    dtype: str


class ModelsAnswer(BaseModel):
    """Answer of GET /models."""

    models: list[ModelDescription]


def _rounded(value: float | Mapping[str, float] | None) -> float | dict[str, float] | None:
    if isinstance(value, Mapping):
        return {name: round(each, 6) for name, each in value.items()}
    return None if value is None else round(value, 6)
