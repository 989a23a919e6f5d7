"""What the published code of CLIP-AGIQA computes, step by step, on open_clip's own layers."""

from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.clip.prompts import TaskPrompts
from model.methods.clip_agiqa import ALIGNMENT_WORDS, QUALITY_WORDS, ClipAgiqa


class Published(nn.Module):
    """Two separate vision passes, and both tasks' texts at CLIP's whole context of 77 tokens for
    every batch of crops, with the weights of ``network``.
    """

    def __init__(self, clip: nn.Module, network: ClipAgiqa) -> None:
        super().__init__()
        self.clip: Any = clip
        self.network: Any = network

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Quality and alignment, [n] each, of normalised crops [n, 3, s, s]."""
        net = self.network
        tasks = ((net.quality, QUALITY_WORDS), (net.alignment, ALIGNMENT_WORDS))
        prompts = net.visual_prompts()  # with the 12 Linears, for every batch
        scores = []
        for i, (task, words) in enumerate(tasks):
            texts = F.normalize(self._texts(task, words), dim=-1)
            images = F.normalize(self._images(crops, prompts[i]), dim=-1)
            logits = self.clip.logit_scale.exp() * images @ texts.T
            scores.append(logits.softmax(-1)[:, 0])
        return scores[0], scores[1]

    def _images(self, crops: Tensor, prompts: Tensor) -> Tensor:
        visual, length = self.clip.visual, prompts.shape[1]
        x = visual.conv1(crops).flatten(2).transpose(1, 2)
        x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], 1)
        x = x + visual.positional_embedding
        x = visual.ln_pre(torch.cat([x, prompts[0].expand(len(x), -1, -1)], 1))
        for i, block in enumerate(visual.transformer.resblocks):
            if i:
                x = torch.cat([x[:, :-length], prompts[i].expand(len(x), -1, -1)], 1)
            x = block(x)
        return visual.ln_post(x[:, 0]) @ visual.proj

    def _texts(self, task: TaskPrompts, words: tuple[str, ...]) -> Tensor:
        clip, n = self.clip, len(task.context)
        texts = [" ".join(["X"] * n + [word]) for word in words]
        ids = open_clip.tokenize(texts, clip.context_length).to(task.context.device)
        x = clip.token_embedding(ids)
        x = torch.cat([x[:, :1], task.context.expand(len(x), -1, -1), x[:, 1 + n :]], 1)
        x = x + clip.positional_embedding
        for i, block in enumerate(clip.transformer.resblocks):
            if i:
                deep = task.text[i - 1].expand(len(x), -1, -1)
                x = torch.cat([x[:, :1], deep, x[:, 1 + n :]], 1)
            x = block(x, attn_mask=clip.attn_mask)
        x = clip.ln_final(x)
        return x[torch.arange(len(x)), ids.argmax(-1)] @ clip.text_projection
