"""The share of this device's matrix-product rate that a vision tower reaches, ViT-B/32.

    python -m benchmarks.share [--dtype float32] [--rounds 7]

The rate is that of the bare products of one layer, at the tower's own shapes and in its dtype: by
torch's ``matmul`` or, on a CPU, by oneDNN's operator, whichever is faster. The tower's products are
counted (its attention's are not), from normalised pixels to features: 25 crops in one pass, and in
both. Tower and bare products take turns.
"""

import argparse
import statistics
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import seconds, shown
from model.clip import one_pass
from model.clip.backbone import random_open_clip
from model.clip.towers import VisionTower
from model.methods.clip_agiqa import ClipAgiqa, ClipAgiqaOptions, FoldedClipAgiqa
from model.scorer import choose_device, choose_dtype, limit_threads

CROPS = 25

Work = Callable[[], object]


def main() -> None:
    """Prints the share for one pass and for both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    limit_threads()
    torch.manual_seed(0)
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    network = ClipAgiqa(random_open_clip("ViT-B-32-quickgelu"), ClipAgiqaOptions()).eval().fold()
    network.place(device, dtype)
    print(f"ViT-B/32, {CROPS} crops on {device}, {torch.get_num_threads()} threads, {dtype}")
    with torch.inference_mode():
        for passes in (1, 2):
            print(line(network, passes, options.rounds))


def line(network: FoldedClipAgiqa, passes: int, rounds: int) -> str:
    """One table line: rates of bare products and tower, and their ratio turn by turn."""
    assert network.prompts is not None
    device = network.prompts.device
    visual: Any = cast(VisionTower, network.vision).visual
    pixels = torch.randn(CROPS, 3, *visual.image_size, device=device)
    crop = torch.arange(CROPS, device=device).repeat(passes)
    which = torch.arange(passes, device=device).repeat_interleave(CROPS)

    def tower() -> Tensor:
        return network(pixels, crop, which)

    with FlopCounterMode(display=False) as counter:
        tower()
    of_tower = counter.get_total_flops() / 1e12
    tokens = len(visual.positional_embedding) + network.prompts.shape[2]
    kinds, of_layer = bare(visual.transformer.resblocks[0], len(crop) * tokens)
    for work in (tower, *kinds):
        finished(work, device)
    rates, shares = [], []
    for _ in range(rounds):
        rates.append(of_layer / min(finished(kind, device) for kind in kinds))
        shares.append(of_tower / finished(tower, device) / rates[-1])
    rate = f"bare products {statistics.median(rates):.3f} TFLOP/s"
    percent = shown([100 * share for share in shares], " %")
    return f"{'both passes' if passes == 2 else 'one pass':12} {rate}, the tower reaches {percent}"


def bare(layer: torch.nn.Module, rows: int) -> tuple[list[Work], float]:
    """Ways to compute the four products of a layer on so many tokens, and their TFLOP."""
    weights = [p for p in layer.parameters() if p.ndim == 2]
    pairs = [(torch.randn(rows, w.shape[1], device=w.device).to(w.dtype), w) for w in weights]
    kinds: list[Work] = [lambda: [F.linear(x, w) for x, w in pairs]]
    if all(one_pass.fuses(x, w) for x, w in pairs):
        kinds.append(lambda: [one_pass.linear(x, w, None) for x, w in pairs])
    return kinds, sum(2 * rows * w.numel() for w in weights) / 1e12


def finished(work: Work, device: torch.device) -> float:
    """Seconds of the work, to its end on the device."""

    def whole() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return seconds(whole)


if __name__ == "__main__":
    main()
