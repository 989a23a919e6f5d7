"""Prompt tuning of CLIP-AGIQA on a frozen backbone, with the consistency head (methods: sections 1
and 2).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from model.clip_agiqa import ClipAgiqa
from model.consistency import pool_views
from model.crops import ALIGNMENT_PASS, QUALITY_PASS
from training.data.views import Batch
from training.engine.loop import Losses
from training.tuning.base import LossWeights, Tuning
from training.tuning.losses import fidelity, ranking, shuffled_margin


class ClipAgiqaWeights(LossWeights):
    """Weights of the terms of the loss; the paper's own are quality 1 and alignment 0.1, no
    ranking.
    """

    quality: float = 1.0
    quality_ranking: float = 0.0
    alignment: float = 0.1
    consistency: float = 0.1
    shuffled_prompt: float = 0.1
    same_prompt_fidelity: float = 0.1
    margin: float = 0.1


class ClipAgiqaTuning(Tuning[ClipAgiqa]):
    """Prompts, conditioning and heads learn, on images that tell their prompt and alignment."""

    weights_type = ClipAgiqaWeights

    def loss(self, batch: Batch) -> Losses:
        """The weighted terms for one batch: both tasks on all views, and the user's prompt."""
        z = self._features(batch.windows, batch.wholes)
        texts = self.network.text_features()
        quality = self._probability(z[QUALITY_PASS], texts.quality, QUALITY_PASS)
        w = self.weights
        losses = {
            "quality": w.quality * F.mse_loss(quality, batch.mos),
            "quality_ranking": w.quality_ranking * ranking(quality, batch.mos),
        }
        if texts.alignment is None:
            return losses
        alignment = self._probability(z[ALIGNMENT_PASS], texts.alignment, ALIGNMENT_PASS)
        losses["alignment"] = w.alignment * F.mse_loss(alignment, batch.mos_align)
        return losses | self._consistency(batch, pool_views(z[ALIGNMENT_PASS]), texts.alignment)

    def predict(self, windows: Tensor, wholes: Tensor, prompts: list[str]) -> dict[str, Tensor]:
        """Quality, and with the auxiliary task alignment and consistency."""
        z, texts = self._features(windows, wholes), self.network.text_features()
        heads = {"quality": self._probability(z[QUALITY_PASS], texts.quality, QUALITY_PASS)}
        head = self.network.consistency
        if texts.alignment is None or head is None:
            return heads
        aligned = z[ALIGNMENT_PASS]
        heads["alignment"] = self._probability(aligned, texts.alignment, ALIGNMENT_PASS)
        asked = self.network.user_features(prompts)
        heads["consistency"] = head(pool_views(aligned), asked, texts.alignment)
        return heads

    def _features(self, windows: Tensor, wholes: Tensor) -> Tensor:
        """Normalised features [passes, n, k + 1, d] of windows and, last, the global view, which
        consistency always reads; one patch embedding for both passes.
        """
        network = self.network
        views = torch.cat([windows, wholes[:, None]], dim=1)
        n, k = views.shape[:2]
        prompts = network.visual_prompts()
        with torch.no_grad():
            tokens = network.vision.patchify(views.flatten(0, 1))
        which = torch.arange(len(prompts)).repeat_interleave(n * k)
        z = network.vision.encode(tokens.repeat(len(prompts), 1, 1), prompts[which])
        return F.normalize(z, dim=-1).view(len(prompts), n, k, -1)

    def _probability(self, z: Tensor, classes: Tensor, task: int) -> Tensor:
        """[n, k + 1, d] -> [n]: mean over windows, mixed with the global view where it counts."""
        each = self.network.probability(z if self.whole else z[:, :-1], classes)
        return self.mixed(each, torch.sigmoid(self.network.global_logit[task]))

    def _consistency(self, batch: Batch, z: Tensor, classes: Tensor) -> Losses:
        head, w = self.network.consistency, self.weights
        assert head is not None
        prompts = list(dict.fromkeys(s.prompt for s in batch.samples))
        rows = torch.tensor([prompts.index(s.prompt) for s in batch.samples])
        features = self.network.user_features(prompts)
        others = (rows + torch.randint(1, max(2, len(prompts)), rows.shape)) % len(prompts)
        matched = head(z, features[rows], classes)
        shuffled = head(z, features[others], classes)
        same = rows[:, None] == rows[None]
        return {
            "consistency": w.consistency * F.mse_loss(matched, batch.mos_align),
            "shuffled_prompt": w.shuffled_prompt * shuffled_margin(matched, shuffled, w.margin),
            "same_prompt": w.same_prompt_fidelity * fidelity(matched, batch.mos_align, same),
        }
