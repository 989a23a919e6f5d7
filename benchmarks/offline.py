"""``agiqa score`` on a folder against a loop of ``scorer.score`` over the same files.

    python -m benchmarks.offline [--images 60] [--checkpoint tiny-clip-agiqa] [--side 512]
                                 [--side-by-side 1] [--in-threads]

Photographs that ship with scikit-image, cut and resized; the files are read anew each time.
"""

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

import skimage.data
from PIL import Image

import model
from app.bulk.local import LocalScoring
from app.bulk.rows import Item, ModelFacts
from app.device.launch import VARIABLES
from benchmarks.timing import ratios, shown
from model.config import HEADS
from model.decoding.decoder import DecodeLimits
from model.pipeline import Pipeline
from model.scorer import Scorer, limit_threads

_PICTURES = ("astronaut", "chelsea", "coffee", "rocket")
_NEAR = 1e-4


def write_pictures(folder: Path, count: int, side: int) -> list[Path]:
    draw = random.Random(0)
    files = []
    for number in range(count):
        picture = Image.fromarray(getattr(skimage.data, _PICTURES[number % 4])())
        width, height = side + draw.randrange(-side // 8, side // 8), side
        left, top = draw.randrange(picture.width // 4), draw.randrange(picture.height // 4)
        cut = picture.crop((left, top, left + picture.width // 2, top + picture.height // 2))
        files.append(folder / f"{number:04}.jpg")
        cut.resize((width, height), Image.Resampling.BICUBIC).save(files[-1], quality=92)
    return files


def facts(scorer: Scorer) -> ModelFacts:
    config, policy = scorer.config, scorer.planner.policy
    span = (config.score_range.low, config.score_range.high)
    return ModelFacts(config.name, config.revision, policy.kind, config.heads, span)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--checkpoint", default="tiny-clip-agiqa")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, help="Most rows of a call of the network.")
    parser.add_argument("--side-by-side", type=int, help="Most calls of the network at once.")
    parser.add_argument("--in-threads", action="store_true", help="Decodes in threads.")
    options = parser.parse_args(arguments)
    limit_threads()  # as the command does; the loop gains by it, too
    scorer = model.load(options.checkpoint, device=options.device)
    with tempfile.TemporaryDirectory() as folder:
        files = write_pictures(Path(folder), options.images, options.side)
        items = [Item(file, f"picture {number}") for number, file in enumerate(files)]
        # The command decodes in processes, which start anew with each run.
        limits = None if options.in_threads else DecodeLimits()
        pipeline = Pipeline(
            scorer, rows=options.rows, side_by_side=options.side_by_side, limits=limits
        )
        scoring = LocalScoring(pipeline, facts(scorer))
        # Its heads only, and no prompts where the method takes none: as the command does.
        asked = "consistency" in scorer.config.heads

        def ours() -> list[dict[str, object]]:
            return list(scoring.score(items))

        def loop() -> list[model.Score]:
            return [scorer.score(i.path, i.prompt if asked else None) for i in items]

        furthest = max(
            abs(row[head] - value)
            for row, score in zip(ours(), loop(), strict=True)
            for head in HEADS
            if (value := getattr(score, head)) is not None
        )
        measured = ratios(ours, loop, options.rounds)
    print(f"{options.images} images, about {options.side} x {options.side}, {scorer.device}:")
    print(f"agiqa score's pipeline is faster than the loop by {shown(measured)}")
    print(f"scores {'agree' if furthest < _NEAR else 'DO NOT AGREE'} within {furthest:.1e}")
    return 0 if furthest < _NEAR else 1


if __name__ == "__main__":
    if not VARIABLES.keys() <= os.environ.keys():  # torch has read them by now; the command's, too
        again = [sys.executable, "-m", "benchmarks.offline", *sys.argv[1:]]
        os.execve(sys.executable, again, {**VARIABLES, **os.environ})
    sys.exit(main())
