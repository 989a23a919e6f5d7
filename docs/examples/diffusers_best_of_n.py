"""Generates n images of a prompt with any diffusers pipeline and keeps the best.

    from agiqa_client import Client
    from diffusers_best_of_n import best_of_n

    with Client("http://localhost:8000") as client:
        best, *others = best_of_n(pipe, "a tray of sushi", 8, client, by="consistency")
    best.image.save(f"{best.seed}.png")

Needs torch, diffusers, agiqa_client.py beside this file, and a running service (``agiqa serve``).
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from agiqa_client import Client, Item, Score


@dataclass(frozen=True)
class Candidate:
    """A generated image (of Pillow), the seed that it came from, and its scores."""

    seed: int
    image: Any
    score: Score


def best_of_n(
    pipe: Callable[..., Any],
    prompt: str,
    n: int,
    client: Client,
    *,
    by: str = "consistency",
    seed: int = 0,
    per_call: int = 1,
    device: str = "cpu",
    **options: Any,
) -> list[Candidate]:
    """Images of the seeds ``seed`` to ``seed + n - 1``, the best first.

    Each seed has a generator of its own, so that any of them can be made again alone.

    Args:
        pipe: called as pipe(prompt=, generator=, num_images_per_prompt=).images.
        prompt: what to generate.
        n: how many.
        client: of the scoring service.
        by: the score that decides: "consistency" (with the prompt), "quality" or "alignment".
        seed: the first one.
        per_call: images that the pipeline makes at once.
        device: of the generators; "cpu" gives the same images on every machine.
        options: more for the pipeline, as num_inference_steps.

    Raises:
        AgiqaError: an image has no score.
        ValueError: the service's model does not give the score ``by``.
    """
    found = []
    for first in range(seed, seed + n, per_call):
        seeds = range(first, min(first + per_call, seed + n))
        generators = [torch.Generator(device).manual_seed(number) for number in seeds]
        made = pipe(
            prompt=prompt, generator=generators, num_images_per_prompt=len(seeds), **options
        )
        items = [Item(image, prompt) for image in made.images]
        for number, (item, score) in zip(seeds, client.score_many(items), strict=True):
            if not isinstance(score, Score):
                raise score
            if getattr(score, by) is None:
                raise ValueError(f"{score.model.name} gives no {by}; serve a model that does")
            found.append(Candidate(number, item.image, score))
    return sorted(found, key=lambda candidate: -float(getattr(candidate.score, by)))


def main() -> None:
    """Generates with a pipeline of the hub, and writes all images, the best first."""
    parser = argparse.ArgumentParser(description="Generate n images and keep the best.")
    parser.add_argument("prompt")
    parser.add_argument("--pipeline", required=True, help="folder, or owner/name on the hub")
    parser.add_argument("-n", type=int, default=4)
    parser.add_argument("--by", default="consistency", choices=["consistency", "quality"])
    parser.add_argument("--keep", type=int, default=1, help="images to write")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--service", default="http://localhost:8000")
    parser.add_argument("--out", type=Path, default=Path())
    given = parser.parse_args()

    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(given.pipeline).to(given.device)
    with Client(given.service) as client:
        best = best_of_n(pipe, given.prompt, given.n, client, by=given.by)
    given.out.mkdir(parents=True, exist_ok=True)
    for place, candidate in enumerate(best):
        value = getattr(candidate.score, given.by)
        sys.stdout.write(f"seed {candidate.seed}: {given.by} {value:.3f}\n")
        if place < given.keep:
            candidate.image.save(given.out / f"{place + 1}-seed-{candidate.seed}.png")


if __name__ == "__main__":
    main()
