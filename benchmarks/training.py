"""A training step of CLIP-AGIQA: this package's engine against the published recipe.

    python -m benchmarks.training [--batch 64] [--steps 4] [--device auto] [--precision auto]

The rival is a plain transcription of the recipe: text towers at 77 tokens for every batch, two
separate vision passes, fp32, Adam at 1e-4. Ours is what ``agiqa train`` runs. Both start from the
same weights on ViT-B/32 (random ones), see the same batches, and take turns; the rival's images are
on the device and normalised before its clock starts. ``--small`` is a smoke test on a tiny CLIP.

Exits with 1 if the two losses differ by more than rounding explains.
"""

import argparse
import contextlib
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.published import Published
from benchmarks.timing import seconds, shown
from model.clip.backbone import build, random_open_clip
from model.config import Architecture, CropPolicy, Normalisation
from model.methods.clip_agiqa import ClipAgiqa, ClipAgiqaOptions
from model.methods.network import normalise
from training.data.samples import Sample
from training.engine.devices import accelerator_for
from training.engine.loop import Run, _Training
from training.engine.schedule import Schedule
from training.engine.validation import ValidationSet
from training.methods.clip_agiqa import ClipAgiqaObjective, ClipAgiqaWeights
from training.sampling.batches import Batch
from training.sampling.pictures import Pictures

SMALL = Architecture(
    embed_dim=16,
    vision_cfg={"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "head_width": 16},
    text_cfg={"width": 16, "layers": 3, "heads": 2},
    quick_gelu=True,
)
PAPER = {"consistency": 0.0, "shuffled_prompt": 0.0, "same_prompt_fidelity": 0.0}
# Largest relative difference of the losses; Adam's first steps follow the gradient's sign alone,
# so rounding grows faster than with plain gradient descent.
AGREEMENT = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 5e-2}

# One step on batch i: the terms of its loss.
Step = Callable[[int], dict[str, float]]


class Given:
    """Batches that are there already, one an epoch of the engine."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return 1

    def epoch(self, number: int) -> Iterator[Batch]:
        yield self.batches[number % len(self.batches)]


def drawn(count: int, size: int, side: int) -> list[Batch]:
    """Random images whose sharpness is their quality and whose tint is their alignment."""
    draw = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(count):
        mos, align = torch.rand(2, size, generator=draw)
        coarse = torch.rand(size, 3, side // 8, side // 8, generator=draw)
        fine = torch.rand(size, 3, side, side, generator=draw)
        sharpness = mos.view(-1, 1, 1, 1)
        images = sharpness * fine + (1 - sharpness) * F.interpolate(coarse, size=(side, side))
        images[:, 0] *= align.view(-1, 1, 1)
        pixels = (images * 255).to(torch.uint8)
        samples = [
            Sample("drawn", Path(f"{i}.png"), str(i), float(mos[i]), prompt=f"picture {i // 2}")
            for i in range(size)
        ]
        batches.append(Batch(pixels[:, None], pixels, mos, align, samples))
    return batches


def networks(clip: nn.Module, count: int) -> list[ClipAgiqa]:
    """Networks with the same weights on one frozen backbone."""
    made = []
    for _ in range(count):
        torch.manual_seed(1)
        made.append(ClipAgiqa(clip, ClipAgiqaOptions()))
    return made


def published(
    network: ClipAgiqa, clip: nn.Module, batches: Sequence[Batch], device: torch.device
) -> Step:
    """The published recipe's step; its images lie there, normalised."""
    model = Published(clip, network.to(device))
    images = [normalise(b.windows[:, 0].to(device), Normalisation()) for b in batches]
    targets = [(b.mos.to(device), b.mos_align.to(device)) for b in batches]
    optimiser = torch.optim.Adam(network.trainable_parameters().values(), lr=1e-4)

    def step(i: int) -> dict[str, float]:
        quality, alignment = model(images[i])
        mos, align = targets[i]
        losses = {
            "quality": F.mse_loss(quality, mos),
            "alignment": 0.1 * F.mse_loss(alignment, align),
        }
        optimiser.zero_grad()
        (losses["quality"] + losses["alignment"]).backward()
        optimiser.step()
        return {key: float(value.detach()) for key, value in losses.items()}

    return step


def ours(
    network: ClipAgiqa, batches: Sequence[Batch], accelerator: Accelerator, **weights: float
) -> Step:
    """The engine's step, as ``agiqa train`` runs it under the paper's schedule."""
    schedule = Schedule(
        epochs=len(batches),
        batch=len(batches[0].samples),
        optimiser="adam",
        lr=1e-4,
        weight_decay=0,
        warmup_epochs=0,
        decay="none",
        clip_norm=None,
        ema=0,
    )
    task = ClipAgiqaObjective(network, ClipAgiqaWeights(**weights), whole=False)
    given: Any = Given(batches)
    nothing = ValidationSet((), Pictures(CropPolicy()))
    run = Run("benchmark", task, given, nothing, schedule, Path("nowhere"), seed=0, fingerprint="")
    training = _Training(run, accelerator)

    def step(i: int) -> dict[str, float]:
        with contextlib.redirect_stderr(io.StringIO()):  # a progress bar of one step
            return training._train(i)

    return step


class Watch:
    """Times and losses of one contestant's steps, and their peak of GPU memory."""

    def __init__(self, name: str, step: Step, device: torch.device) -> None:
        self.name, self.step, self.device = name, step, device
        self.seconds: list[float] = []
        self.losses: list[dict[str, float]] = []
        self.peak = 0

    def run(self, i: int) -> None:
        """Step i, to its end on the device."""
        gpu = self.device.type == "cuda"
        before = 0
        if gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        self.seconds.append(seconds(lambda: self._step(i)))
        if gpu:
            self.peak = max(self.peak, torch.cuda.max_memory_allocated() - before)

    def _step(self, i: int) -> None:
        self.losses.append(self.step(i))
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    @property
    def curve(self) -> Tensor:
        """The whole loss by step."""
        return torch.tensor([sum(losses.values()) for losses in self.losses])

    def line(self) -> str:
        """Its times, after the first step, and its memory."""
        memory = f"; {self.peak / 2**30:.2f} GiB at the peak" if self.peak else ""
        times = self.seconds[1:]
        unit, factor = (" s", 1) if min(times) > 1 else (" ms", 1000)
        return f"{self.name:36} {shown([factor * t for t in times], unit)}{memory}"


def compare(rival: Watch, own: Watch, precision: str) -> bool:
    """Prints both curves; whether they agree."""
    difference = float(((own.curve - rival.curve).abs() / rival.curve).max())
    agree = difference <= AGREEMENT[precision]
    for watch in (rival, own):
        print(f"loss, {watch.name:30} " + " ".join(f"{float(v):.6f}" for v in watch.curve))
    verdict = "agree" if agree else "DON'T AGREE"
    print(f"losses {verdict}: they differ by at most {difference:.1e} ({AGREEMENT[precision]:g})")
    return agree


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints losses, times and ratios."""
    options = _options(arguments)
    accelerator = accelerator_for(options.device, options.precision)
    device, mixed = accelerator.device, accelerator.mixed_precision
    precision = "fp32" if mixed == "no" else mixed
    torch.manual_seed(0)
    clip = (build(SMALL) if options.small else random_open_clip("ViT-B-32-quickgelu")).eval()
    batches = drawn(options.steps, options.batch, int(clip.visual.image_size[0]))
    first, second, third = networks(clip, 3)
    rival = Watch("published recipe, fp32", published(first, clip, batches, device), device)
    own = Watch(f"ours, {precision}", ours(second, batches, accelerator, **PAPER), device)
    asking = Watch(f"{own.name}, with consistency", ours(third, batches, accelerator), device)
    watches = [rival, own] if options.no_consistency else [rival, own, asking]
    print(f"batch {options.batch} on {device}, {torch.get_num_threads()} threads")
    for i in range(options.steps):
        for watch in watches:
            watch.run(i)
    agree = compare(rival, own, precision)
    print("\n".join(watch.line() for watch in watches))
    print(f"{'a step is faster by':36} {shown(_ratios(rival, own))}")
    if asking in watches:
        print(f"{'with consistency it is longer by':36} {shown(_ratios(asking, own))}")
    return 0 if agree else 1


def _ratios(one: Watch, other: Watch) -> list[float]:
    """Times of one by those of the other, turn by turn, after the first."""
    return [a / b for a, b in zip(one.seconds[1:], other.seconds[1:], strict=True)]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4, help="the first one warms up")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=["auto", *AGREEMENT], default="auto")
    parser.add_argument("--small", action="store_true", help="a tiny CLIP")
    parser.add_argument("--no-consistency", action="store_true", help="leave out the third line")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
