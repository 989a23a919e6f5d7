"""What a checkpoint says about itself: ``config.json``, validated by pydantic. Needs no torch."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, model_validator

from model.architecture import Architecture as Architecture

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

Head = Literal["quality", "alignment", "consistency"]
HEADS: tuple[Head, ...] = get_args(Head)

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# It stands in logs, metrics and messages.
Name = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


TokenId = Annotated[int, Field(ge=0, lt=2**31)]


class TokenizerConfig(_Frozen):
    """A tokenizer other than CLIP's own byte pairs: the file ``tokenizer.json`` beside
    ``config.json``, which ``sha256`` names, and what open_clip does around it.

    ``clean``: open_clip's cleaning of the text; ``start`` and ``end`` stand around its tokens;
    ``pad`` fills up the tower's context.
    """

    sha256: Sha256
    clean: Literal["whitespace", "lower", "canonicalize"] = "whitespace"
    start: Annotated[tuple[TokenId, ...], Field(max_length=4)] = ()
    end: Annotated[tuple[TokenId, ...], Field(max_length=4)] = ()
    pad: TokenId = 0


class BackboneConfig(_Frozen):
    """Where the frozen CLIP comes from.

    - ``open_clip``: ``name`` is an open_clip architecture, ``pretrained`` its tag; or ``name`` is
      ``hf-hub:owner/name`` (downloaded and cached);
    - ``file``: ``path`` is a weights file, relative paths starting at the checkpoint, so that
      several can share one; outside of the checkpoint's folder only with its ``sha256``;
    - ``checkpoint``: ``backbone.safetensors`` lies beside ``config.json``.

    For the last two, ``name`` (open_clip's) or ``architecture`` (our own) says what the weights
    are. ``sha256`` is the digest of the file, which must fit. ``tokenizer``: None for CLIP's own.
    """

    source: Literal["open_clip", "file", "checkpoint"]
    name: str | None = None
    pretrained: str | None = None
    path: str | None = None
    architecture: Architecture | None = None
    sha256: Sha256 | None = None
    tokenizer: TokenizerConfig | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        on_hub = (self.name or "").startswith("hf-hub:")
        fields: dict[str, dict[str, object]] = {
            "open_clip": {"name": self.name, "pretrained": self.pretrained or on_hub},
            "file": {"path": self.path, "name or architecture": self.name or self.architecture},
            "checkpoint": {"name or architecture": self.name or self.architecture},
        }
        if missing := [field for field, value in fields[self.source].items() if not value]:
            raise ValueError(f"a backbone from {self.source!r} needs {', '.join(missing)}")
        return self


CropKind = Literal["grid", "official", "liqe", "random", "whole"]
CROP_POLICIES: tuple[CropKind, ...] = get_args(CropKind)


class CropPolicy(_Frozen):
    """How an image becomes crops (see ``model.preprocess.windows``); part of the checkpoint, so
    that serving repeats training.

    ``max_windows`` is the cap of ``grid`` and the number of ``liqe`` and ``random``. ``random``
    draws its places by ``seed`` and the image's size, or, ``seeded_by`` "file", by a digest of the
    image's file as well. Larger images are reduced: to ``max_side`` by ``grid`` and ``whole``; by
    the other kinds, whose papers take native pixels, to ``max_short_side`` where one is stated
    (bilinear, as LIQE does).
    """

    kind: CropKind = "grid"
    size: int = Field(default=224, ge=16, le=1024)
    stride: int = Field(default=144, ge=1, le=65536)
    max_side: int | None = Field(default=None, ge=16, le=65536)
    max_short_side: int | None = Field(default=None, ge=16, le=65536)
    max_windows: int = Field(default=64, ge=1, le=4096)
    seed: int = Field(default=0, ge=0)
    seeded_by: Literal["size", "file"] = "size"
    global_view: bool = False

    @model_validator(mode="after")
    def _is_of_one_size(self) -> Self:
        if self.kind == "whole" and self.global_view:
            raise ValueError("the crop policy 'whole' takes no global view: it is one already")
        return self

    @model_validator(mode="after")
    def _reduces_to_a_window_at_least(self) -> Self:
        if self.max_short_side is None:
            return self
        if self.kind in ("grid", "whole"):
            raise ValueError(f"the crop policy {self.kind!r} has no max_short_side: set max_side")
        if self.max_short_side < self.size:
            raise ValueError(f"a max_short_side under {self.size} leaves no window of that size")
        return self

    @classmethod
    def official(cls, size: int = 224) -> Self:
        """CLIP-AGIQA's published protocol: every window at stride 64 from the top left, native
        size.
        """
        return cls(kind="official", size=size, stride=64)

    @classmethod
    def liqe(cls, size: int = 224) -> Self:
        """LIQE's: the short side reduced to 768, then 15 windows picked evenly from those at
        stride 32.
        """
        short = max(768, size)
        return cls(kind="liqe", size=size, stride=32, max_windows=15, max_short_side=short)

    @classmethod
    def random(cls, size: int = 224, seed: int = 0) -> Self:
        """MP-IQE's: 8 windows at random, the same ones whenever that file comes."""
        return cls(kind="random", size=size, max_windows=8, seed=seed, seeded_by="file")

    @classmethod
    def whole(cls, size: int = 224, max_side: int | None = None) -> Self:
        """CLIP-IQA's with a ResNet: the image itself, no windows."""
        return cls(kind="whole", size=size, max_side=max_side)


class Normalisation(_Frozen):
    """Per-channel mean and standard deviation of pixels in [0, 1]; ImageNet's by default, as
    CLIP-AGIQA uses.
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


CLIP_NORMALISATION = Normalisation(mean=CLIP_MEAN, std=CLIP_STD)


class ScoreRange(_Frozen):
    """The scale of the opinion scores that the model learned from: mos = low + quality * (high -
    low).
    """

    low: FiniteFloat = 0.0
    high: FiniteFloat = 1.0


class Provenance(_Frozen):
    """What was trained, on what, and how; ``split`` is enough to draw the same split of
    ``trained_on`` again. ``backbone_trained_on``: what a backbone of our own saw before. ``seen``:
    by data set, digests of all groups (prompts, images) that either learned from.
    """

    trained_on: tuple[str, ...] = ()
    backbone_trained_on: tuple[str, ...] = ()
    split: dict[str, Any] = Field(default_factory=dict)
    seen: dict[str, str] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    seed: int | None = None
    command: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)


Picture = Literal[1, 2, 3]


class SelfTest(_Frozen):
    """What the checkpoint gave, in float32, for a picture that a formula draws (see
    ``model.self_test``); ``prompt`` only where a head needs one.
    """

    picture: Picture
    prompt: str | None = None
    scores: dict[Head, Annotated[float, Field(ge=0, le=1)]]


class CheckpointConfig(_Frozen):
    """The whole of ``config.json``. ``sha256`` is the digest of ``model.safetensors``.

    ``crop_policy`` is what it scores with; ``measured_policy`` what its figures were measured with,
    where that is another: a published protocol may have no ceiling.
    """

    format: Literal[1] = 1
    name: Name
    revision: Name = "0"
    sha256: Sha256 | None = None
    method: str
    backbone: BackboneConfig
    options: dict[str, Any] = Field(default_factory=dict)
    heads: tuple[Head, ...] = HEADS
    crop_policy: CropPolicy = CropPolicy()
    measured_policy: CropPolicy | None = None
    normalisation: Normalisation = Normalisation()
    score_range: ScoreRange = ScoreRange()
    provenance: Provenance = Provenance()
    self_test: SelfTest | None = None

    @property
    def is_sealed(self) -> bool:
        """Whether it tells if its files are whole and what they must compute."""
        return self.sha256 is not None and self.self_test is not None
