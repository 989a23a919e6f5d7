"""One image through CLIP-AGIQA on ViT-B/32: this package against the published procedure.

    python -m benchmarks.single [--rounds 5]

The rival is a transcription of what the published code does for every image: all windows at stride
64, two separate vision passes, both text towers at 77 tokens with deep prompts, conditioning
recomputed, float32. Both use the same random weights. Three figures: the same windows (what folding
alone gives), our default grid of windows, and both heads.
"""

import argparse
import copy

import numpy as np
import open_clip
import torch
from PIL import Image

from benchmarks.published import Published
from benchmarks.timing import ratios, shown
from model.config import CheckpointConfig, CropPolicy, Head
from model.methods.clip_agiqa import ClipAgiqa, ClipAgiqaOptions
from model.methods.network import normalise
from model.scorer import Scorer


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
        # A scorer converts its network in place, and the rival's stays float32.
        Scorer(config, copy.deepcopy(network), device="cpu", crop_policy=policy)
        for policy in (CropPolicy.official(), CropPolicy())
    )
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    image = Image.fromarray(pixels)

    @torch.no_grad()
    def published() -> tuple[float, float]:
        crops = torch.from_numpy(official.crops(image, ["quality"]))
        quality, alignment = rival(normalise(crops, config.normalisation))
        return float(quality.mean()), float(alignment.mean())

    both: list[Head] = ["quality", "alignment"]
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
