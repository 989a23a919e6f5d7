"""Parameters and multiply-adds of every method on its paper's backbone, and of the bundled models:

    python -m benchmarks.costs          prints the table of docs/methods.md

Nothing is timed: the numbers are counted (torch.utils.flop_counter, half of its FLOPs) on the
network as the scorer runs it, with random weights, so they are the same on every machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model.clip.backbone import random_open_clip
from model.config import BackboneConfig, CheckpointConfig, CropPolicy
from model.methods.network import Network
from model.methods.registry import build_network
from model.scorer import Scorer
from model.store.checkpoint import find, load_network

# Method, open_clip's name of its paper's backbone, crop (height, width).
PAPERS = (
    ("clip-agiqa", "ViT-B-32-quickgelu", (224, 224)),
    ("mp-iqe", "ViT-B-16-quickgelu", (224, 224)),
    ("clip-iqa", "RN50-quickgelu", (512, 512)),
    ("clip-iqa-plus", "RN50-quickgelu", (512, 512)),
    ("clipscore", "ViT-B-32-quickgelu", (224, 224)),
    ("liqe", "ViT-B-32-quickgelu", (224, 224)),
)
BUNDLED = ("tiny-mpiqe", "tiny-clip-agiqa")
HEADER = (
    "| method | backbone | learned | whole network | one row is | multiply-adds a row | rows of a "
    "512 x 512 image |"
)


@dataclass(frozen=True)
class Cost:
    """One line of the table."""

    method: str
    backbone: str
    learned: int
    parameters: int
    crop: tuple[int, int]
    multiply_adds: int
    rows: int

    def line(self) -> str:
        """As Markdown."""
        height, width = self.crop
        numbers = [
            _millions(self.learned),
            _millions(self.parameters),
            f"{width} x {height}",
            f"{self.multiply_adds / 1e9:.3g} G",
            str(self.rows),
        ]
        return "| " + " | ".join([self.method, self.backbone, *numbers]) + " |"


def paper_cost(method: str, architecture: str, crop: tuple[int, int]) -> Cost:
    """Of a method on its paper's backbone."""
    torch.manual_seed(0)
    network = build_network(method, random_open_clip(architecture), {})
    whole = network.takes_any_size
    policy = CropPolicy.whole() if whole else CropPolicy(max_windows=network.usual_windows)
    config = CheckpointConfig(
        name=method,
        method=method,
        backbone=BackboneConfig(source="checkpoint", name=architecture),
        heads=network.heads,
        crop_policy=policy,
    )
    return _cost(method, architecture.removesuffix("-quickgelu"), config, network, crop)


def bundled_cost(name: str) -> Cost:
    """Of a bundled model."""
    config, network = load_network(find(name))
    size = config.crop_policy.size
    return _cost(f"`{name}`", "own", config, network, (size, size))


def _cost(
    method: str, backbone: str, config: CheckpointConfig, network: Network, crop: tuple[int, int]
) -> Cost:
    learned = _count(network.trainable_parameters())
    parameters = _count(dict(network.named_parameters()))
    scorer = Scorer(config, network, device="cpu", dtype="float32")
    layout = scorer.planner.layout(512, 512, ("quality",))
    with FlopCounterMode(display=False) as counter:
        scorer.forward(np.zeros((1, 3, *crop), np.uint8), [0], [0])
    flops = counter.get_total_flops()
    return Cost(method, backbone, learned, parameters, crop, flops // 2, layout.rows)


def _count(parameters: Mapping[str, nn.Parameter]) -> int:
    return sum({id(p): p.numel() for p in parameters.values()}.values())


def _millions(count: int) -> str:
    return f"{count / 1e6:.3g} M" if count else "0"


def table() -> str:
    """The whole table."""
    costs: list[Any] = [paper_cost(*paper) for paper in PAPERS]
    costs += [bundled_cost(name) for name in BUNDLED]
    rule = "|" + "---|" * (HEADER.count("|") - 1)
    return "\n".join([HEADER, rule, *(cost.line() for cost in costs)])


if __name__ == "__main__":
    print(table())
