"""CLIP-AGIQA (Fu et al., "Vision-Language Consistency Guided Multi-modal Prompt Learning for Blind
AI Generated Image Quality Assessment", IEEE SPL 2024), with a head for consistency with the user's
prompt.

Two tasks share one frozen CLIP, each with prompts of its own:

- quality, the main task:        "[V]x8 good photo."     against  "[V]x8 bad photo."
- alignment, the auxiliary task: "[V]x8 aligned photo."  against  "[V]x8 misaligned photo."

``ClipAgiqa`` is the network that trains. At inference everything learned is constant, so ``fold``
turns it into ``FoldedClipAgiqa``: one tensor of visual prompts per pass and two text features per
task.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from model.clip.prompts import TaskPrompts, encode_with_context, split_prompt
from model.clip.tokenizer import Tokenizer
from model.clip.towers import TextTower, VisionTower, place
from model.config import HEADS, Head
from model.methods.antonyms import positive_probability
from model.methods.consistency import ConsistencyHead, Start, pool_views
from model.methods.network import FoldedFeatures, Network, Options, Reading, Views
from model.methods.precision import widened
from model.preprocess.crops import ALIGNMENT_PASS, PASSES, QUALITY_PASS
from model.scores import Score

QUALITY_WORDS = ("good photo.", "bad photo.")
ALIGNMENT_WORDS = ("aligned photo.", "misaligned photo.")


class ClipAgiqaOptions(Options):
    """Switches of CLIP-AGIQA; the defaults are the paper's. ``consistency_views``: what is compared
    with the user's prompt, all views, or the whole image alone, which shows what windows cut apart
    (all, where there is no such view).
    """

    context_length: int = Field(default=8, ge=1, le=1024)
    visual_length: int = Field(default=8, ge=1, le=1024)
    auxiliary_task: bool = True
    deep_text_prompts: bool = True
    visual_prompts: bool = True
    prompt_position: Literal["pre_ln", "post_ln"] = "pre_ln"
    consistency_context: str = "a photo that depicts"
    learn_consistency_context: bool = True
    consistency_start: Start = "clipscore"
    consistency_views: Literal["all", "whole"] = "all"
    init_std: float = Field(default=0.02, gt=0)


@dataclass(frozen=True)
class TextFeatures:
    """Normalised text features: [2, d] each, the positive word first; ``alignment`` is None without
    that task.
    """

    quality: Tensor
    alignment: Tensor | None


class ClipAgiqa(Network):
    """The trainable network: prompts and heads around a frozen CLIP.

    Its towers hold the backbone.
    """

    options_type: ClassVar[type[Options]] = ClipAgiqaOptions
    trainable: ClassVar[tuple[str, ...]] = (
        "quality",
        "alignment",
        "condition",
        "consistency",
        "global_logit",
    )
    options: ClipAgiqaOptions
    vision: VisionTower

    def __init__(self, clip: nn.Module, options: ClipAgiqaOptions) -> None:
        super().__init__(clip, VisionTower(clip.visual, options.prompt_position))
        self.options = options
        self.heads = HEADS if options.auxiliary_task else ("quality",)
        self.require_room(options.context_length, (*QUALITY_WORDS, *ALIGNMENT_WORDS))
        self.quality = self._task_prompts()
        self.alignment = self._task_prompts() if options.auxiliary_task else None
        width, layers = self.vision.width, self.visual_layers
        conditioned = layers if options.auxiliary_task else 0
        self.condition = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(conditioned))
        self.consistency = self._consistency_head() if options.auxiliary_task else None
        # Weight of the whole image beside the mean of its windows, per task; used where the crop
        # policy has that view.
        self.global_logit = nn.Parameter(torch.zeros(2))

    @property
    def visual_layers(self) -> int:
        """Number of layers that carry visual prompts: all of them, or none in that ablation."""
        return self.vision.depth if self.options.visual_prompts else 0

    def visual_prompts(self) -> Tensor:
        """[passes, layers, P, w]: the main task's prompts, conditioned on the auxiliary task's, and
        the latter.

        Layer l of the main task is Linear_l(concat(P_l_main, P_l_aux)); the auxiliary task runs
        unconditioned.
        """
        main: Tensor = self.quality.visual
        if self.alignment is None:
            return main[None]
        auxiliary = self.alignment.visual
        pairs = torch.cat([main, auxiliary], dim=-1)  # [layers, P, 2w]
        if len(pairs):
            main = torch.stack(
                [linear(pair) for linear, pair in zip(self.condition, pairs, strict=True)]
            )
        return torch.stack([main, auxiliary])

    def text_features(self) -> TextFeatures:
        quality = self._class_features(self.quality, QUALITY_WORDS)
        if self.alignment is None:
            return TextFeatures(quality, None)
        return TextFeatures(quality, self._class_features(self.alignment, ALIGNMENT_WORDS))

    def probability(self, z: Tensor, classes: Tensor) -> Tensor:
        """softmax(s * cos(z, t))[positive] for features [..., d] and classes [2, d]."""
        return positive_probability(z, classes, self.logit_scale.exp())

    def compared(self, z: Tensor, *, whole: bool) -> Tensor:
        """What of an image's features [..., views, d] is compared with prompts [..., d]; ``whole``:
        the last one is the whole image's.
        """
        if whole and self.options.consistency_views == "whole":
            return z[..., -1, :]
        return pool_views(z)

    def user_features(self, prompts: Sequence[str]) -> Tensor:
        """Normalised features [n, d] of users' prompts behind the learnable context."""
        assert self.consistency is not None
        return embed_user_prompts(self.text, self.consistency.context, self.tokenizer, prompts)

    def fold(self) -> "FoldedClipAgiqa":
        """The network at inference: prompts and text features computed once."""
        with torch.no_grad():
            return FoldedClipAgiqa(
                self, self.visual_prompts().detach().clone(), self.text_features()
            )

    def _task_prompts(self) -> TaskPrompts:
        o = self.options
        text_layers = self.text.depth - 1 if o.deep_text_prompts else 0
        visual = (self.visual_layers, o.visual_length, self.vision.width)
        return TaskPrompts((o.context_length, self.text.width), text_layers, visual, o.init_std)

    def _consistency_head(self) -> ConsistencyHead:
        ids = torch.tensor(
            [self.tokenizer(self.options.consistency_context)], device=self.logit_scale.device
        )
        context = self.text.embed(ids)[0]
        scale = float(self.logit_scale.exp())
        start = self.options.consistency_start
        head = ConsistencyHead(self.vision.embed_dim, context, scale, start)
        head.context.requires_grad_(self.options.learn_consistency_context)
        return head

    def _class_features(self, task: TaskPrompts, words: Sequence[str]) -> Tensor:
        return self.encode_texts(words, task.context, task.text)


class FoldedClipAgiqa(FoldedFeatures):
    """CLIP-AGIQA at inference: what the scorer runs. A row is one crop in one pass; reading it is a
    few dot products, on the CPU in float32.
    """

    def __init__(self, network: ClipAgiqa, prompts: Tensor, texts: TextFeatures) -> None:
        super().__init__(network.vision, prompts)
        self.text = network.text
        self.tokenizer = network.tokenizer
        self.context = None if network.consistency is None else network.consistency.context.detach()
        aligned = texts.quality if texts.alignment is None else texts.alignment
        self.classes = (texts.quality.float().cpu(), aligned.float().cpu())  # by pass, each [2, d]
        self.scale = network.logit_scale.detach().exp().float().cpu()
        self.global_weight = torch.sigmoid(network.global_logit.detach()).float().cpu()
        self.whole_only = network.options.consistency_views == "whole"
        self.consistency = copy.deepcopy(network.consistency)
        if self.consistency is not None:
            self.consistency.cpu().float()

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Puts the towers on the device in ``dtype``; what reads stays on the CPU in float32."""
        super().place(device, dtype)
        place(self.text, device, dtype)
        self.context = None if self.context is None else self.context.to(device, dtype)

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Normalised float32 features [n, d] of users' prompts."""
        assert self.context is not None
        return embed_user_prompts(self.text, self.context, self.tokenizer, prompts).float()

    def reading(self, head: Head, t_user: Tensor | None = None) -> Reading:
        """Probabilities of quality and alignment, mixed over the views; consistency of all of them
        with the user's prompt.
        """
        if head == "consistency":
            return Reading(lambda views: self._consistency(views, t_user))
        task = PASSES[head]
        weight = self.global_weight[task]
        return Reading(
            lambda views: views.mixed(weight, lambda z: self._probability(z, task)), weight
        )

    def read(self, views: Mapping[Head, Views], t_user: Tensor | None = None) -> Score:
        values = {head: float(self.reading(head, t_user).value(views[head])) for head in views}
        crop_quality = None
        if "quality" in views:
            windows = views["quality"].windows
            crop_quality = tuple(self._probability(windows, QUALITY_PASS).tolist())
        return Score(
            len(next(iter(views.values())).windows),
            values.get("quality"),
            values.get("alignment"),
            values.get("consistency"),
            crop_quality=crop_quality,
        )

    def _probability(self, z: Tensor, task: int) -> Tensor:
        """Of features [..., d], the task's positive words."""
        return positive_probability(z, self.classes[task], self.scale)

    def _consistency(self, views: Views, t_user: Tensor | None) -> Tensor:
        assert self.consistency is not None
        assert t_user is not None
        alone = self.whole_only and views.whole is not None
        z = views.whole if alone else pool_views(views.all)
        assert z is not None
        classes = self.classes[ALIGNMENT_PASS]
        consistency: Tensor = self.consistency(z[None], t_user[None], classes)[0]
        return consistency


def embed_user_prompts(
    tower: TextTower, context: Tensor, tokenizer: Tokenizer, prompts: Sequence[str]
) -> Tensor:
    """t_u of section 2: [start, context, BPE(u), end], normalised; a long prompt's parts are
    averaged.
    """
    limit = tower.context_length - len(context) - 2
    commas = frozenset(tokenizer(","))
    parts = [split_prompt(tokenizer(prompt), limit, commas) for prompt in prompts]
    flat = [part for own in parts for part in own]
    features = widened(encode_with_context(tower, flat, context, tokenizer, deep=None))
    features = F.normalize(features, dim=-1)
    owners = features.split([len(own) for own in parts])
    return torch.stack([F.normalize(own.mean(0), dim=-1) for own in owners])
