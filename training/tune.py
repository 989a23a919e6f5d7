"""Prompt tuning of CLIP-AGIQA on a frozen backbone, with the consistency head (methods: sections 1
and 2).
"""

from collections.abc import Mapping

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from model.clip_agiqa import ClipAgiqa, mix_views
from model.consistency import pool_views
from model.crops import ALIGNMENT_PASS, QUALITY_PASS
from training.engine import Losses
from training.losses import fidelity, ranking, shuffled_margin
from training.metrics import plcc, srcc
from training.pretrain import Held
from training.views import Batch


class TuneWeights(BaseModel):
    """Weights of the terms of the loss; the paper's own are quality 1 and alignment 0.1, no
    ranking.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    quality: float = 1.0
    quality_ranking: float = 0.0
    alignment: float = 0.1
    consistency: float = 0.1
    shuffled_prompt: float = 0.1
    same_prompt_fidelity: float = 0.1
    margin: float = 0.1


class ClipAgiqaTuning:
    """The task that ``training.engine`` runs: prompts, conditioning and heads learn; the CLIP is
    frozen.
    """

    def __init__(self, network: ClipAgiqa, held: Held, weights: TuneWeights) -> None:
        self.network, self.held, self.weights = network.eval(), held, weights

    def trained(self) -> Mapping[str, nn.Parameter]:
        """The network's declared parameters, and no other."""
        return self.network.learned()

    def buffers(self) -> Mapping[str, Tensor]:
        """None: the frozen backbone's statistics stand still."""
        return {}

    def loss(self, batch: Batch) -> Losses:
        """The weighted terms for one batch: both tasks on both views, and the user's prompt."""
        z = self._features(batch.windows, batch.wholes)
        texts = self.network.text_features()
        assert texts.alignment is not None
        quality = self._mixed(z[QUALITY_PASS], texts.quality, QUALITY_PASS)
        alignment = self._mixed(z[ALIGNMENT_PASS], texts.alignment, ALIGNMENT_PASS)
        w = self.weights
        return {
            "quality": w.quality * F.mse_loss(quality, batch.mos),
            "quality_ranking": w.quality_ranking * ranking(quality, batch.mos),
            "alignment": w.alignment * F.mse_loss(alignment, batch.mos_align),
            **self._consistency(batch, pool_views(z[ALIGNMENT_PASS]), texts.alignment),
        }

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """SRCC of quality, alignment and consistency on the held samples, from two views each."""
        held, texts = self.held, self.network.text_features()
        parts = zip(held.middles.split(32), held.wholes.split(32), strict=True)
        z = torch.cat([self._features(*part) for part in parts], dim=1)  # [passes, n, views, d]
        assert texts.alignment is not None
        assert self.network.consistency is not None
        quality = np.asarray(self._mixed(z[QUALITY_PASS], texts.quality, QUALITY_PASS))
        alignment = np.asarray(self._mixed(z[ALIGNMENT_PASS], texts.alignment, ALIGNMENT_PASS))
        asked = self.network.user_features([s.prompt for s in held.samples])
        asked_of = np.asarray(
            self.network.consistency(pool_views(z[ALIGNMENT_PASS]), asked, texts.alignment)
        )
        mos, align = ([getattr(s, f) for s in held.samples] for f in ("mos", "mos_align"))
        return {
            "srcc": srcc(quality, mos),
            "plcc": plcc(quality, mos),
            "srcc_alignment": srcc(alignment, align),
            "srcc_consistency": srcc(asked_of, align),
        }

    def _features(self, windows: Tensor, wholes: Tensor) -> Tensor:
        """Normalised features [passes, n, 2 views, d]; one patch embedding for both passes."""
        network, n = self.network, len(windows)
        prompts = network.visual_prompts()
        with torch.no_grad():
            tokens = network.vision.patchify(torch.cat([windows, wholes]))
        which = torch.arange(len(prompts)).repeat_interleave(2 * n)
        z = network.vision.encode(tokens.repeat(len(prompts), 1, 1), prompts[which])
        return F.normalize(z, dim=-1).view(len(prompts), 2, n, -1).transpose(1, 2)

    def _mixed(self, z: Tensor, classes: Tensor, task: int) -> Tensor:
        """Window and global view [n, 2, d] -> probability [n], mixed by the learned weight."""
        each = self.network.probability(z, classes)
        return mix_views(each[:, 0], each[:, 1], torch.sigmoid(self.network.global_logit[task]))

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
