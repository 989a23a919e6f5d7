"""Scores what a diffusers pipeline is making, stops hopeless images early, and logs scores.

    watch = ScoringCallback(client, "a tray of sushi", at=(0.6, 0.8), stop_below=0.4)
    image = pipe("a tray of sushi", callback_on_step_end=watch).images[0]
    watch.stopped, watch.history        # whether it was given up, and [(step, best score), ...]

    log_validation(client, images, prompts, step, accelerator.log)    # in a training loop

A preview is the latents of that step, decoded: the earlier, the noisier, and the lower its scores.
So run without ``stop_below`` first, and choose it from the histories of images that came out well
and badly. Needs torch, diffusers, agiqa_client.py beside this file, and a running service.
"""

import argparse
import logging
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from agiqa_client import AgiqaError, Client, Item, Score

logger = logging.getLogger(__name__)


def decode_latents(pipe: Any, latents: torch.Tensor) -> list[Any]:
    """Pillow's images of latents [b, c, h, w], for pipelines that keep them as Stable Diffusion."""
    with torch.no_grad():
        decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor, return_dict=False)[0]
    images: list[Any] = pipe.image_processor.postprocess(decoded, output_type="pil")
    return images


class ScoringCallback:
    """For ``callback_on_step_end``: scores previews at some steps, and ends a generation whose best
    image is below a threshold.

    Args:
        client: of the scoring service.
        prompt: what is generated.
        at: parts of the way, in (0, 1), at which a preview is scored.
        by: "quality", "consistency" or "alignment".
        stop_below: None: only watch.
        decode: for pipelines with other latents, as FLUX's packed ones.
    """

    def __init__(
        self,
        client: Client,
        prompt: str | None = None,
        *,
        at: Sequence[float] = (0.6, 0.8),
        by: str = "quality",
        stop_below: float | None = None,
        decode: Callable[[Any, torch.Tensor], list[Any]] = decode_latents,
    ) -> None:
        self.client, self.prompt, self.at, self.by = client, prompt, at, by
        self.stop_below, self.decode = stop_below, decode
        self.history: list[tuple[int, float]] = []
        self.stopped = False

    def __call__(
        self, pipe: Any, step: int, timestep: Any, callback_kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """What diffusers calls after each step; it takes the tensors back as they were."""
        del timestep
        if step == 0:
            self.history, self.stopped = [], False
        if step in {int(part * pipe.num_timesteps) for part in self.at}:
            self._watch(pipe, step, callback_kwargs["latents"])
        return callback_kwargs

    def _watch(self, pipe: Any, step: int, latents: torch.Tensor) -> None:
        previews = self.decode(pipe, latents)
        try:
            scores = self.client.score_agi_batch(previews, [self.prompt] * len(previews))
        except AgiqaError as error:
            # An image is worth more than its score: without the service it is just made.
            logger.warning("step %d has no score: %s", step, error)
            return
        known = [getattr(score, self.by) for score in scores if isinstance(score, Score)]
        values = [float(value) for value in known if value is not None]
        if not values:
            return
        self.history.append((step, max(values)))
        if self.stop_below is not None and max(values) < self.stop_below:
            # The steps that are left are skipped; the pipeline still returns what it has.
            pipe._interrupt = self.stopped = True


def log_validation(
    client: Client,
    images: Sequence[Any],
    prompts: Sequence[str],
    step: int,
    log: Callable[..., object],
) -> dict[str, float]:
    """Mean scores of a validation step's images, handed to ``log(values, step=step)``, which is
    what ``accelerator.log`` and ``wandb.log`` take.

    Raises:
        AgiqaError: an image has no score.
    """
    items = [Item(image, prompt) for image, prompt in zip(images, prompts, strict=True)]
    scores = []
    for _, score in client.score_many(items):
        if not isinstance(score, Score):
            raise score
        scores.append(score)
    values = {}
    for head in ("quality", "alignment", "consistency"):
        known = [value for score in scores if (value := getattr(score, head)) is not None]
        if known:
            values[f"agiqa/{head}"] = statistics.fmean(known)
    log(values, step=step)
    return values


def main() -> None:
    """Generates one image and prints how its previews scored."""
    parser = argparse.ArgumentParser(description="Watch the scores of an image as it is made.")
    parser.add_argument("prompt")
    parser.add_argument("--pipeline", required=True, help="folder, or owner/name on the hub")
    parser.add_argument("--at", type=float, nargs="+", default=[0.4, 0.6, 0.8])
    parser.add_argument("--by", default="quality", choices=["quality", "consistency"])
    parser.add_argument("--stop-below", type=float)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--service", default="http://localhost:8000")
    parser.add_argument("--out", default="image.png")
    given = parser.parse_args()

    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(given.pipeline).to(given.device)
    with Client(given.service) as client:
        watch = ScoringCallback(
            client, given.prompt, at=given.at, by=given.by, stop_below=given.stop_below
        )
        pipe(given.prompt, callback_on_step_end=watch).images[0].save(given.out)
    for step, value in watch.history:
        sys.stdout.write(f"step {step}: {given.by} {value:.3f}\n")
    sys.stdout.write(f"{given.out}{' (given up early)' if watch.stopped else ''}\n")


if __name__ == "__main__":
    main()
