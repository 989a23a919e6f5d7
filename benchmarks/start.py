"""How long an operator waits: from starting the service with its bundled models to ready, and for
the score of a 512 x 512 image.

    python -m benchmarks.start [--rounds 5] [--images 40]

The service starts anew each round, its files in the page cache; scores are the bare scorer's, a
model after the other: decode, crops and network, for everything that the model has.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import model
from benchmarks.service import make_files
from benchmarks.timing import seconds
from model.store.checkpoint import BUNDLED
from tests.app.server import serving

BOTH = {"AGIQA_MODELS": "tiny-mpiqe,tiny-clip-agiqa", "AGIQA_THREADS": ""}


def started() -> float:
    """Seconds from nothing to a service whose /readyz says yes."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with serving(Path(folder), BOTH, wait=False) as running:
            running.wait_until_ready()
            return time.perf_counter() - start


def scored(name: str, files: list[Path]) -> list[float]:
    """Milliseconds per image."""
    scorer = model.load(name, device="cpu")
    prompt = "a tray of sushi" if "consistency" in scorer.config.heads else None
    scorer.score(files[0], prompt)
    return [1000 * seconds(lambda file=file: scorer.score(file, prompt)) for file in files]  # type: ignore[misc]


def quantiles(values: list[float], unit: str) -> str:
    """Median and range."""
    middle = statistics.median(values)
    return f"{middle:.3g} {unit} ({min(values):.3g} to {max(values):.3g}, {len(values)} times)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=40)
    arguments = parser.parse_args()
    started()  # what comes first reads from the disk
    print("start to ready:", quantiles([started() for _ in range(arguments.rounds)], "s"))
    with tempfile.TemporaryDirectory() as folder:
        files = make_files(Path(folder), arguments.images)
        for path in sorted(BUNDLED.glob("*/config.json")):
            name = path.parent.name
            print(f"512 x 512 by {name}:", quantiles(scored(name, files), "ms"))


if __name__ == "__main__":
    main()
