"""Prompt tuning of CLIP-AGIQA on a frozen backbone: the paper's loss, and that of the consistency
head.

    L = MSE(quality, MOS) + 0.1 MSE(alignment, MOS_align)
      + 0.1 MSE(A, MOS_align) + 0.1 mean relu(m - A(x, u) + A(x, u')) + 0.1 fidelity(A)
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.optimize import brentq, least_squares
from scipy.special import expit, logit
from torch import Tensor
from torch.nn import functional as F

from model.methods.clip_agiqa import ClipAgiqa, TextFeatures
from model.preprocess.crops import ALIGNMENT_PASS, QUALITY_PASS
from training.data.samples import Sample
from training.engine.task import Heads, Losses, Outputs, Predicted
from training.errors import DataError
from training.methods.base import LossWeights, Objective
from training.methods.losses import fidelity, ranking, shuffled_margin
from training.methods.variant import Variant
from training.sampling.batches import Batch


class ClipAgiqaWeights(LossWeights):
    """Weights of the terms of the loss; the paper's own are quality 1 and alignment 0.1, no ranking
    and no consistency. The other prompts of ``shuffled_prompt`` are ``margin`` lower; the nearest
    count ``near_prompts`` of them.
    """

    quality: float = 1.0
    quality_ranking: float = 0.0
    alignment: float = 0.1
    consistency: float = 0.1
    shuffled_prompt: float = 0.1
    same_prompt_fidelity: float = 0.1
    margin: float = 0.1
    near_prompts: float = 0.0

    @property
    def asks(self) -> bool:
        """Whether anything is learned from the users' prompts."""
        return any((self.consistency, self.shuffled_prompt, self.same_prompt_fidelity))


# The published code heeds the depth of the prompts only without the auxiliary task.
_ALONE = {"auxiliary_task": False}
_SWITCHES = (
    Variant(
        "text prompts only, no auxiliary task", {"options": _ALONE | {"visual_prompts": False}}
    ),
    Variant(
        "visual prompts only, no auxiliary task",
        {"options": _ALONE | {"deep_text_prompts": False}},
    ),
    Variant("text and visual prompts, no auxiliary task", {"options": _ALONE}),
)
_AUXILIARY = (0.01, 0.1, 0.5, 1.0)  # weights of the auxiliary loss; the paper's is 0.1
# Batches that tell the bias at which the head for users' prompts starts.
_FIRST = 8
# Of the prompts that were met, so many count as near.
_NEAR = 16
# Opinions whose mean is an end of the scale would need a bias without end.
_LEAST_MEAN = 1e-3
# Nor may a handful of images turn the order around.
_LEAST_SLOPE = 0.2


class ClipAgiqaObjective(Objective[ClipAgiqa]):
    """Prompts, conditioning and heads learn, on images that tell their prompt and alignment."""

    weights_type = ClipAgiqaWeights
    weights: ClipAgiqaWeights
    paper_name = "CLIP-AGIQA"
    paper_setting = "quality; by prompt"
    paper_rounds = ("AGIQA-3K", "AIGCIQA2023")
    # One switch of the published code sets both.
    prompt_lengths: ClassVar[Mapping[tuple[str, ...], Sequence[int]]] = {
        ("context_length", "visual_length"): (2, 4, 8, 16)
    }

    @classmethod
    def ablations(cls, weights: Mapping[str, float]) -> Sequence[Variant]:
        """What the published code's own switches allow, and the weight of the auxiliary loss."""
        own = weights.get("alignment", ClipAgiqaWeights().alignment)
        others = [
            Variant(f"auxiliary loss x {weight:g}", {"weights": {"alignment": weight}})
            for weight in _AUXILIARY
            if weight != own
        ]
        return [Variant(f"full model (auxiliary loss x {own:g})"), *_SWITCHES, *others]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._known: dict[str, Tensor] = {}

    @property
    def asks(self) -> bool:
        """Whether users' prompts are learned from; if not, no text of theirs is encoded."""
        return self.weights.asks and self.network.consistency is not None

    def start(self, first: Iterator[tuple[Outputs, Batch]]) -> None:
        """A head that compares with prompts at its start gets the bias with which its mean over the
        first batches is that of their opinions.
        """
        head = self.network.consistency
        if head is None or not self.asks or self.network.options.consistency_start == "alignment":
            return
        classes = self.network.text_features().alignment
        assert classes is not None
        logits, opinions = [], []
        for outputs, batch in islice(first, _FIRST):
            rated = ~batch.mos_align.isnan()
            users = self._user_features([sample.prompt for sample in batch.samples])
            z = self._compared(outputs["z"])
            logits.append(head.logit(z, users, classes)[rated].double())
            opinions.append(batch.mos_align[rated].double())
        mean = float(torch.cat(opinions).mean())
        if not math.isnan(mean):
            head.bias.add_(calibration(torch.cat(logits), mean))

    @property
    def wants_whole(self) -> bool:
        """Consistency always reads the whole image."""
        return self.whole or self.asks

    def forward(self, windows: Tensor, wholes: Tensor | None) -> Outputs:
        """``z``: normalised features [n, passes, k (+ 1), d] of windows and, last, the global view;
        one patch embedding and one run of the tower for both passes.
        """
        network = self.network
        views = self.views(windows, wholes)
        n, k = views.shape[:2]
        prompts = network.visual_prompts()
        with torch.no_grad():
            tokens = network.vision.patchify(views.flatten(0, 1))
        passes = len(prompts)
        which = torch.arange(passes, device=tokens.device).repeat_interleave(n * k)
        z = network.vision.encode(tokens.repeat(passes, 1, 1), prompts[which])
        return {"z": F.normalize(z.float(), dim=-1).view(passes, n, k, -1).transpose(0, 1)}

    def loss(self, outputs: Outputs, batch: Batch) -> Losses:
        """The weighted terms for one batch: both tasks on all views, and the users' prompts."""
        z, w, texts = outputs["z"], self.weights, self.network.text_features()
        quality = self._probability(z, texts.quality, QUALITY_PASS)
        losses = {"quality": w.quality * F.mse_loss(quality, batch.mos)}
        if w.quality_ranking:
            losses["quality_ranking"] = w.quality_ranking * ranking(
                quality, batch.mos, batch.same_set
            )
        if texts.alignment is None:
            return losses
        rated = ~batch.mos_align.isnan()
        if not rated.any():
            raise DataError(
                f"{batch.samples[0].dataset} tells no alignment: set options.auxiliary_task=false"
            )
        alignment = self._probability(z, texts.alignment, ALIGNMENT_PASS)
        losses["alignment"] = w.alignment * F.mse_loss(alignment[rated], batch.mos_align[rated])
        if self.asks:
            losses |= self._consistency(batch, self._compared(z), texts, rated)
        return losses

    def quality(self, outputs: Outputs) -> Tensor:
        texts = self.network.text_features()
        return self._probability(outputs["z"], texts.quality, QUALITY_PASS)

    def heads(self, outputs: Outputs, prompts: Sequence[str]) -> Heads:
        """Quality, and with the auxiliary task alignment and consistency."""
        z, texts = outputs["z"], self.network.text_features()
        heads = {"quality": self._probability(z, texts.quality, QUALITY_PASS)}
        head = self.network.consistency
        if texts.alignment is None or head is None:
            return heads
        heads["alignment"] = self._probability(z, texts.alignment, ALIGNMENT_PASS)
        if self.asks and prompts and all(prompts):
            users = self._user_features(list(prompts))
            heads["consistency"] = head(self._compared(z), users, texts.alignment)
        return heads

    def calibrate(self, predicted: Predicted, samples: Sequence[Sample]) -> None:
        """Consistency, by Platt's two numbers: what it makes of prompts that it was tuned on is
        higher than of others.
        """
        head = self.network.consistency
        opinions = np.array([math.nan if s.mos_align is None else s.mos_align for s in samples])
        rated = ~np.isnan(opinions)
        if head is not None and "consistency" in predicted and rated.any():
            head.rescale(*platt(predicted["consistency"][rated], opinions[rated]))

    def _probability(self, z: Tensor, classes: Tensor, task: int) -> Tensor:
        """[n, passes, views, d] -> [n], of a task's own pass: the mean over windows, mixed with the
        global view where it counts.
        """
        z = z[:, task]
        windows_only = self.wants_whole and not self.whole
        each = self.network.probability(z[:, :-1] if windows_only else z, classes)
        return self.mixed(each, torch.sigmoid(self.network.global_logit[task]))

    def _compared(self, z: Tensor) -> Tensor:
        """What of the features [n, passes, views, d] is compared with users' prompts [n, d]."""
        return self.network.compared(z[:, ALIGNMENT_PASS], whole=self.wants_whole)

    def _consistency(self, batch: Batch, z: Tensor, texts: TextFeatures, rated: Tensor) -> Losses:
        head, w, classes = self.network.consistency, self.weights, texts.alignment
        assert head is not None
        assert classes is not None
        prompts = list(dict.fromkeys(s.prompt for s in batch.samples))
        rows = torch.tensor([prompts.index(s.prompt) for s in batch.samples], device=z.device)
        features = self._user_features(prompts)
        matched = head(z, features[rows], classes)
        others, shares = self._others(prompts, features)
        shuffled = head(z[:, None], others[None], classes)
        same = (rows[:, None] == rows[None]) & rated & rated[:, None]
        return {
            "consistency": w.consistency * F.mse_loss(matched[rated], batch.mos_align[rated]),
            "shuffled_prompt": w.shuffled_prompt
            * shuffled_margin(matched, shuffled, shares[rows], w.margin),
            "same_prompt": w.same_prompt_fidelity * fidelity(matched, batch.mos_align, same),
        }

    def _others(self, prompts: Sequence[str], features: Tensor) -> tuple[Tensor, Tensor]:
        """What n prompts, with their features [n, d], are told from: all m prompts that were met
        [m, d], and what each counts [n, m], the nearest ``near_prompts`` in all. Rows add up to 1,
        or to 0 where a prompt is the only one.
        """
        known = [self._known[prompt] for prompt in self._known if prompt not in set(prompts)]
        texts = torch.stack([*features, *known])
        different = torch.ones(len(prompts), len(texts), device=texts.device)
        different.fill_diagonal_(0)
        shares = different / different.sum(1, keepdim=True).clamp(min=1)
        if len(texts) <= _NEAR:
            return texts, shares
        similarity = (features @ texts.T).detach().fill_diagonal_(-math.inf)
        nearest = similarity.topk(_NEAR).indices
        near = torch.zeros_like(shares).scatter(1, nearest, 1 / _NEAR)
        return texts, torch.lerp(shares, near, self.weights.near_prompts)

    def _user_features(self, prompts: list[str]) -> Tensor:
        """Users' prompts as features [n, d]: of learned contexts anew, of frozen ones once each."""
        head = self.network.consistency
        assert head is not None
        if head.context.requires_grad:
            return self.network.user_features(prompts)
        if new := [p for p in dict.fromkeys(prompts) if p not in self._known]:
            with torch.no_grad():
                self._known |= dict(zip(new, self.network.user_features(new), strict=True))
        return torch.stack([self._known[p] for p in prompts])


def calibration(logits: Tensor, mean: float) -> float:
    """The b with which the mean of sigmoid(logits + b) is that mean."""
    wanted = min(max(mean, _LEAST_MEAN), 1 - _LEAST_MEAN)
    reach = float(logits.abs().max()) - math.log(_LEAST_MEAN) + 1
    return float(brentq(lambda b: float((logits + b).sigmoid().mean()) - wanted, -reach, reach))


def platt(probabilities: np.ndarray, opinions: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the logits of [n] that bring them nearest to [n] opinions in [0, 1]
    (Platt, 1999, with squares instead of likelihoods: opinions are no classes).
    """
    logits = logit(np.clip(probabilities, _LEAST_MEAN, 1 - _LEAST_MEAN))

    def errors(numbers: np.ndarray) -> np.ndarray:
        found: np.ndarray = expit(numbers[0] * logits + numbers[1]) - opinions
        return found

    bounds = ((_LEAST_SLOPE, -np.inf), (1 / _LEAST_SLOPE, np.inf))
    found = least_squares(errors, x0=(1.0, 0.0), bounds=bounds)
    slope, offset = found.x
    return float(slope), float(offset)
