"""A training step of every method in miniature, and what memory it takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from model.clip.backbone import build
from model.config import Architecture
from model.methods.registry import build_network
from tests.training.runs import ARCHITECTURE
from training.data.samples import Sample
from training.engine.task import Step
from training.methods.base import Objective, objective_type
from training.sampling.batches import Batch
from training.sampling.degraded import Degraded, Plan

SIDE = 32
METHODS: Mapping[str, dict[str, Any]] = {
    "clip-agiqa": {},
    "mp-iqe": {"decoder_heads": 4, "decoder_layers": 2},
    "clip-iqa-plus": {},
    "liqe": {},
}
SCENES = (("human",), ("landscape", "plant"), ())
DISTORTIONS = ("blur", "", "noise")


def objective(method: str, *, whole: bool = True, **vision: int) -> Objective[Any]:
    """On a tiny backbone with random weights; ``vision`` are other settings of its image tower."""
    torch.manual_seed(2)
    settings = {**ARCHITECTURE, "vision_cfg": {**ARCHITECTURE["vision_cfg"], **vision}}
    clip = build(Architecture.model_validate(settings))
    network = build_network(method, clip, METHODS[method])
    kind = objective_type(method)
    task: Objective[Any] = kind(network, kind.weights_type(), whole=whole)
    return task


def batch_of(task: Objective[Any], images: int, *, windows: int = 1, degraded: int = 0) -> Batch:
    """Noise with labels; some of the images also degraded."""
    noise = torch.Generator().manual_seed(4)

    def pixels(*shape: int) -> torch.Tensor:
        size = (*shape, 3, SIDE, SIDE)
        return torch.randint(0, 256, size, generator=noise, dtype=torch.uint8)

    samples = [
        Sample(
            "AB"[i % 2],
            Path(f"{i}.png"),
            f"{i}",
            (i % 5) / 4,
            (i % 3) / 2,
            f"a prompt {i}",
            scenes=SCENES[i % 3],
            distortion=DISTORTIONS[i % 3],
        )
        for i in range(images)
    ]
    whole = task.wants_whole
    plans = [Plan(base, "jpeg", (0.3, 0.9)) for base in range(degraded)]
    worse = Degraded(pixels(2 * degraded, windows), pixels(2 * degraded) if whole else None, plans)
    return Batch(
        pixels(images, windows),
        pixels(images) if whole else None,
        torch.tensor([sample.mos for sample in samples]),
        torch.tensor([sample.mos_align for sample in samples]),
        samples,
        worse if degraded else None,
    )


def run_step(step: Step, batch: Batch) -> dict[str, torch.Tensor]:
    """The terms of the loss, and the gradient of all that learns."""
    torch.manual_seed(5)
    step.zero_grad(set_to_none=True)
    losses = step(batch)
    torch.stack(list(losses.values())).sum().backward()
    found = {name: value.detach() for name, value in losses.items()}
    learned = step.task.trained().items()
    return found | {name: p.grad.clone() for name, p in learned if p.grad is not None}
