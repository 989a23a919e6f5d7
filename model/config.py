"""What a checkpoint says about itself: ``config.json``, validated by pydantic. Needs no torch."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Head = Literal["quality", "alignment", "consistency"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Architecture(_Frozen):
    """A CLIP of our own, in open_clip's terms: the arguments of ``open_clip.CLIP`` and a
    convolutional stem.

    ``stem`` holds the output channels of the convolutional stem that replaces the single patch
    projection (see ``model.backbone.ConvStem``). Empty: open_clip's own patch projection.
    """

    embed_dim: int
    vision_cfg: dict[str, Any]
    text_cfg: dict[str, Any]
    quick_gelu: bool = False
    stem: tuple[int, ...] = ()


class BackboneConfig(_Frozen):
    """Where the frozen CLIP comes from.

    - ``open_clip``: ``name`` is an open_clip architecture, ``pretrained`` its tag (downloaded and
      cached);
    - ``file``: ``path`` is a weights file, relative paths starting at the checkpoint, so that
      several can share one;
    - ``checkpoint``: ``backbone.safetensors`` lies beside ``config.json``.

    For the last two, ``name`` (open_clip's) or ``architecture`` (our own) says what the weights
    are.
    """

    source: Literal["open_clip", "file", "checkpoint"]
    name: str | None = None
    pretrained: str | None = None
    path: str | None = None
    architecture: Architecture | None = None
    sha256: str | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        fields: dict[str, dict[str, object]] = {
            "open_clip": {"name": self.name, "pretrained": self.pretrained},
            "file": {"path": self.path, "name or architecture": self.name or self.architecture},
            "checkpoint": {"name or architecture": self.name or self.architecture},
        }
        if missing := [field for field, value in fields[self.source].items() if not value]:
            raise ValueError(f"a backbone from {self.source!r} needs {', '.join(missing)}")
        return self


class CropPolicy(_Frozen):
    """How an image becomes crops (see ``model.crops``); part of the checkpoint, so that serving
    repeats training.
    """

    kind: Literal["grid", "official"] = "grid"
    size: int = Field(default=224, ge=16)
    stride: int = Field(default=144, ge=1)
    max_side: int | None = Field(default=None, ge=16)
    max_windows: int = Field(default=64, ge=1)
    global_view: bool = False

    @classmethod
    def official(cls, size: int = 224) -> Self:
        """The published protocol: every window at stride 64 from the top left, native size."""
        return cls(kind="official", size=size, stride=64)


class ClipAgiqaOptions(_Frozen):
    """Switches of CLIP-AGIQA (Fu et al., 2024); the defaults are the paper's."""

    context_length: int = Field(default=8, ge=1)
    visual_length: int = Field(default=8, ge=1)
    auxiliary_task: bool = True
    deep_text_prompts: bool = True
    visual_prompts: bool = True
    prompt_position: Literal["pre_ln", "post_ln"] = "pre_ln"
    consistency_context: str = "a photo that depicts"
    init_std: float = 0.02


class Normalisation(_Frozen):
    """Per-channel mean and standard deviation of pixels in [0, 1]; ImageNet's by default, as
    CLIP-AGIQA uses.
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


class ScoreRange(_Frozen):
    """The scale of the opinion scores that the model learned from: mos = low + quality * (high -
    low).
    """

    low: float = 0.0
    high: float = 1.0


class Provenance(_Frozen):
    """What was trained, on what, and how; ``split`` is enough to draw the same split again."""

    trained_on: tuple[str, ...] = ()
    split: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    seed: int | None = None
    command: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)


class CheckpointConfig(_Frozen):
    """The whole of ``config.json``."""

    format: Literal[1] = 1
    name: str
    revision: str = "0"
    method: str
    backbone: BackboneConfig
    options: dict[str, Any] = Field(default_factory=dict)
    heads: tuple[Head, ...] = ("quality", "alignment", "consistency")
    crop_policy: CropPolicy = CropPolicy()
    normalisation: Normalisation = Normalisation()
    score_range: ScoreRange = ScoreRange()
    provenance: Provenance = Provenance()
