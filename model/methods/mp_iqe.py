"""MP-IQE (Pan et al., "Multi-Modal Prompt Learning on Blind Image Quality Assessment", arXiv
2404.14949): scene prompts, distortion prompts and deep visual prompts on a frozen CLIP.

    V^s_c, V^d_c   text features of "[V]x8 {scene}" and "[V]x8 {distortion}"               (Eq. 6)
    P_1 .. P_12    visual prompts behind the tokens of every layer                         (Eq. 7)
    scene          p = softmax_c(CLS . V^s_c / T)                                          (Eq. 8)
    distortion     S_ic = cos(P_i, V^d_c) of max-pooled patches;
                   a_c = sum_i softmax_i(S_ic / Tbar) S_ic;  p = softmax_c(a_c / T)        (Eq. 10)
    score          decoder with queries concat(V^s, V^d) over I' = [CLS, patches]       (Eq. 12-14)

The class token keeps CLIP's frozen projection (Eq. 3); patches and the decoder's memory get a
learnable one that starts as CLIP's. At inference V^s, V^d and the first self-attended queries are
constants. What the paper leaves open is listed in docs/methods.md.

Without scene and distortion prompts ("visual-only", which the paper's pictures compare with) the
decoder asks with one learnable query [1, d] instead; there are no scenes and distortions then.
Alone in self-attention it sees only itself, so queries and keys there change nothing.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from model.clip.prompts import random_prompts
from model.clip.towers import VisionTower, place
from model.methods.decoder import Decoder
from model.methods.network import Network, Options, ReadsQuality, Views
from model.methods.precision import widened, without_autocast
from model.methods.vocabulary import DISTORTIONS, SCENES
from model.scores import Score


class MpIqeOptions(Options):
    """Switches of MP-IQE: prompt lengths of Table 6, ablations of Table 4; the defaults are the
    paper's. Neither ``scene_prompts`` nor ``distortion_prompts``: the visual-only variant.
    """

    context_length: int = Field(default=8, ge=1, le=1024)
    visual_length: int = Field(default=4, ge=1, le=1024)
    scene_prompts: bool = True
    distortion_prompts: bool = True
    visual_prompts: Literal["deep", "shallow", "none"] = "deep"
    prompt_position: Literal["pre_ln", "post_ln"] = "post_ln"
    region_side: int = Field(default=7, ge=1, le=1024)
    region_temperature: float = Field(default=1 / 20, gt=0)
    decoder_layers: int = Field(default=3, ge=1, le=64)
    decoder_heads: int = Field(default=8, ge=1, le=1024)
    init_std: float = Field(default=0.02, gt=0)

    @property
    def visual_only(self) -> bool:
        """Whether there are no texts among the queries."""
        return not (self.scene_prompts or self.distortion_prompts)


@dataclass(frozen=True)
class Texts:
    """Normalised text features: ``scene`` [9, d] and ``distortion`` [11, d]; None in that
    ablation. Without both, ``query`` [1, d], learned and not normalised, stands for them.
    """

    scene: Tensor | None
    distortion: Tensor | None
    query: Tensor | None = None

    @property
    def queries(self) -> Tensor:
        """Q = concat(V^s, V^d) (Eq. 12), or the visual-only variant's one query."""
        parts = (self.scene, self.distortion, self.query)
        return torch.cat([part for part in parts if part is not None])


@dataclass(frozen=True)
class Outputs:
    """Of B crops: ``score`` [B], not clipped; logits ``scene`` [B, 9] and ``distortion`` [B, 11]
    before the softmax; None in that ablation.
    """

    score: Tensor
    scene: Tensor | None
    distortion: Tensor | None


class MpIqe(Network):
    """The trainable network: prompts, patch projection and decoder around a frozen CLIP."""

    options_type: ClassVar[type[Options]] = MpIqeOptions
    trainable: ClassVar[tuple[str, ...]] = (
        "scene_context",
        "distortion_context",
        "query",
        "visual_prompts",
        "projection",
        "decoder",
        "global_logit",
    )
    options: MpIqeOptions
    vision: VisionTower

    def __init__(self, clip: nn.Module, options: MpIqeOptions) -> None:
        super().__init__(clip, VisionTower(clip.visual, options.prompt_position))
        self.options = o = options
        self.require_room(o.context_length, (*SCENES, *DISTORTIONS))
        context = (o.context_length, self.text.width)
        self.scene_context = random_prompts(context, o.init_std) if o.scene_prompts else None
        self.distortion_context = (
            random_prompts(context, o.init_std) if o.distortion_prompts else None
        )
        query = (1, self.vision.embed_dim)
        self.query = random_prompts(query, o.init_std) if o.visual_only else None
        layers = {"deep": self.vision.depth, "shallow": 1, "none": 0}[o.visual_prompts]
        self.visual_prompts = random_prompts(
            (layers, o.visual_length, self.vision.width), o.init_std
        )
        self.projection = nn.Linear(self.vision.width, self.vision.embed_dim)
        with torch.no_grad():
            self.projection.weight.copy_(self.vision.visual.proj.T)
            self.projection.bias.zero_()
        self.decoder = Decoder(self.vision.embed_dim, o.decoder_layers, o.decoder_heads)
        # Weight of the whole image beside the mean of its windows, where the crop policy has it.
        self.global_logit = nn.Parameter(torch.zeros(()))

    def texts(self) -> Texts:
        """V^s and V^d (Eq. 6), or the query instead of them."""
        scene, distortion = self.scene_context, self.distortion_context
        return Texts(
            None if scene is None else self.encode_texts(SCENES, scene),
            None if distortion is None else self.encode_texts(DISTORTIONS, distortion),
            self.query,
        )

    def tokens(self, pixels: Tensor) -> Tensor:
        """[CLS, patches] [B, 1 + n, w] of normalised crops [B, 3, h, w], after ``ln_post``."""
        return self.vision.encode_tokens(self.vision.patchify(pixels), self.visual_prompts[None])

    def forward(self, pixels: Tensor, texts: Texts | None = None) -> Outputs:
        """Scores and logits of normalised crops [B, 3, h, w], read in float32 whatever the tower
        runs in, as ``FoldedMpIqe`` does.
        """
        texts = texts or self.texts()
        tokens = widened(self.tokens(pixels))
        with without_autocast(tokens):
            attended = self.decoder.ask(texts.queries)
            return self.read_tokens(tokens, texts, attended, self.logit_scale.exp())

    def read_tokens(self, tokens: Tensor, texts: Texts, attended: Tensor, scale: Tensor) -> Outputs:
        """Eq. 8, 10 and 14 on tokens [B, 1 + n, w], with the first layer's queries ``attended`` and
        the frozen ``scale`` 1 / T.
        """
        memory = self.projection(tokens)
        scene = distortion = None
        if texts.scene is not None:
            cls = F.normalize(tokens[:, 0] @ self.vision.visual.proj.to(tokens.dtype), dim=-1)
            scene = scale * cls @ texts.scene.T
        if texts.distortion is not None:
            o = self.options
            regions = pool_regions(memory[:, 1:], o.region_side)
            distortion = scale * aggregate(regions, texts.distortion, o.region_temperature)
        return Outputs(self.decoder(attended, memory), scene, distortion)

    def fold(self) -> "FoldedMpIqe":
        """The network at inference: text features and first queries computed once."""
        with torch.no_grad():
            texts = self.texts()
            return FoldedMpIqe(self, texts, self.decoder.ask(texts.queries))


def pool_regions(patches: Tensor, side: int) -> Tensor:
    """The patches [B, n, d] as a square map, adaptively max-pooled to [B, side * side, d]."""
    square = math.isqrt(patches.shape[1])
    image = patches.transpose(1, 2).unflatten(2, (square, square))
    return F.adaptive_max_pool2d(image, side).flatten(2).transpose(1, 2)


def aggregate(regions: Tensor, texts: Tensor, temperature: float) -> Tensor:
    """a_c = sum_i softmax_i(S_ic / Tbar) S_ic with S_ic = cos(P_i, V^d_c) (Eq. 10): [B, regions, d]
    and normalised [c, d] -> [B, c].
    """
    similarity = F.normalize(regions, dim=-1) @ texts.T  # [B, regions, c]
    return ((similarity / temperature).softmax(1) * similarity).sum(1)


class FoldedMpIqe(nn.Module, ReadsQuality):
    """MP-IQE at inference. A row is [score, scene probabilities, distortion probabilities] of one
    crop.
    """

    def __init__(self, network: MpIqe, texts: Texts, attended: Tensor) -> None:
        super().__init__()
        self.network = network
        self.texts = texts
        self.attended = attended
        # Its own: a method that shares the backbone may convert the CLIP's logit scale.
        self.scale = network.logit_scale.detach().exp().float()
        self.global_weight: Tensor = torch.sigmoid(network.global_logit.detach()).float().cpu()

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Puts all on the device, the image tower in ``dtype``; what reads its tokens is small and
        stays in float32.
        """
        network = self.network
        place(network.vision, device, dtype)
        network.projection.to(device)
        network.decoder.to(device)
        network.visual_prompts.data = network.visual_prompts.data.to(device, dtype)
        texts = self.texts
        scene, distortion, query = (
            None if t is None else t.to(device)
            for t in (texts.scene, texts.distortion, texts.query)
        )
        self.texts = Texts(scene, distortion, query)
        self.attended = self.attended.to(device)
        self.scale = self.scale.to(device)

    def forward(self, pixels: Tensor, row_crop: Tensor, row_pass: Tensor) -> Tensor:
        """Float32 rows [m, 1 + scenes + distortions] of m rows over n crops [n, 3, h, w]."""
        del row_pass
        tokens = self.network.tokens(pixels[row_crop]).float()
        out = self.network.read_tokens(tokens, self.texts, self.attended, self.scale)
        logits = [each for each in (out.scene, out.distortion) if each is not None]
        return torch.cat([out.score[:, None], *(each.softmax(-1) for each in logits)], dim=1)

    def class_features(self, pixels: Tensor) -> Tensor:
        """What scenes are read from (Eq. 8), not normalised."""
        return (self.network.tokens(pixels)[:, 0] @ self.network.vision.visual.proj).float()

    def value(self, views: Views) -> Tensor:
        """The score averaged over the crops, mixed with the global view."""
        return views.mixed(self.global_weight)[0]

    def score(self, views: Views) -> Score:
        """Everything averaged over the crops, mixed with the global view, the score clipped."""
        row = views.mixed(self.global_weight)
        names = (
            SCENES if self.texts.scene is not None else (),
            DISTORTIONS if self.texts.distortion is not None else (),
        )
        scene, distortion = (
            dict(zip(kind, part.tolist(), strict=True)) or None
            for kind, part in zip(names, row[1:].split([len(n) for n in names]), strict=True)
        )
        return Score(
            len(views.windows),
            float(self.value(views).clamp(0, 1)),
            scene=scene,
            distortion=distortion,
            crop_quality=tuple(views.windows[:, 0].clamp(0, 1).tolist()),
        )
