"""One image through CLIP-AGIQA on ViT-B/32: this package against the published procedure.

    python -m benchmarks.single [--rounds 5]

The rival is a transcription of what the published code does for every image: all windows at stride
64, two separate vision passes, both text towers at 77 tokens with deep prompts, conditioning
recomputed, float32. Both use the same random weights. Three figures: the same windows (what folding
alone gives), our default grid of windows, and both heads.
"""

import argparse

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.timing import ratios, shown
from model.clip_agiqa import ALIGNMENT_WORDS, QUALITY_WORDS, ClipAgiqa, ClipAgiqaOptions
from model.config import CheckpointConfig, CropPolicy
from model.prompts import TaskPrompts
from model.scorer import Scorer

CONTEXT = 77


class Published(nn.Module):
    """The published inference, step by step, on open_clip's own layers."""

    def __init__(self, clip: nn.Module, network: ClipAgiqa) -> None:
        super().__init__()
        self.clip, self.network = clip, network

    @torch.no_grad()
    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Mean quality and alignment of normalised crops [n, 3, 224, 224]."""
        net = self.network
        tasks = ((net.quality, QUALITY_WORDS), (net.alignment, ALIGNMENT_WORDS))
        prompts = net.visual_prompts()  # with the 12 Linears, for every batch
        scores = []
        for i, (task, words) in enumerate(tasks):
            texts = F.normalize(self._texts(task, words), dim=-1)
            images = F.normalize(self._images(crops, prompts[i]), dim=-1)
            logits = self.clip.logit_scale.exp() * images @ texts.T
            scores.append(logits.softmax(-1)[:, 0].mean())
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
        ids = open_clip.tokenize([" ".join(["X"] * n + [word]) for word in words], CONTEXT)
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


def main() -> None:
    """Prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    clip = open_clip.create_model("ViT-B-32-quickgelu", pretrained=None).eval()
    network = ClipAgiqa(clip, ClipAgiqaOptions()).eval()
    config = CheckpointConfig.model_validate(
        {"name": "b32", "method": "clip-agiqa", "backbone": {"source": "checkpoint", "name": "x"}}
    )
    rival = Published(clip, network)
    official, grid = (
        Scorer(config, network, device="cpu", crop_policy=policy)
        for policy in (CropPolicy.official(), CropPolicy())
    )
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    image = Image.fromarray(pixels)

    def published() -> tuple[float, float]:
        crops = torch.from_numpy(official.crops(image, ["quality"])).float()
        quality, alignment = rival((crops - official._mean) / official._std)
        return float(quality), float(alignment)

    both = ["quality", "alignment"]
    ours = official.score(image, heads=both)
    theirs = published()
    difference = max(abs(ours.quality - theirs[0]), abs(ours.alignment - theirs[1]))
    print(f"512 x 512 image, {torch.get_num_threads()} threads, {official.dtype}")
    print(f"same windows: scores differ by {difference:.1e}")
    cases = {
        "quality, same 25 windows": lambda: official.score(image, heads=["quality"]),
        "quality + alignment, same 25 windows": lambda: official.score(image, heads=both),
        "quality, grid of 9 windows": lambda: grid.score(image, heads=["quality"]),
        "quality + alignment, grid of 9 windows": lambda: grid.score(image, heads=both),
    }
    for name, case in cases.items():
        print(f"{name:40} faster by {shown(ratios(case, published, rounds))}")


if __name__ == "__main__":
    main()
