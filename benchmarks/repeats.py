"""What the cache of scores (`AGIQA_CACHE_ANSWERS`) gains for images that come again, and costs for
those that do not.

    python -m benchmarks.repeats [--rounds 5] [--images 120] [--clients 16]

Two services on the same machine, with and without the cache, are asked by turns, by clients that
each send the next image when they have the answer. Prints images per second where all images are
one and the same, and where none is sent twice, and the milliseconds of a lone request that is a
hit, with the ratios round by round.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import httpx
from PIL import Image

from benchmarks.calm import HERE, service
from benchmarks.service import lone, make_files, saturated

_LONE = 30


def new_files(folder: Path, files: list[Path], number: int) -> list[Path]:
    """Copies of these images that differ by a few bytes after their end, which nothing reads."""
    folder.mkdir()
    copies = []
    for file in files:
        copies.append(folder / file.name)
        copies[-1].write_bytes(file.read_bytes() + b"%d" % number)
    return copies


def hits(url: str) -> float:
    """Images that the cache had, or that another request computed."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    counts = [line for line in lines if line.startswith("agiqa_answer_cache_requests_total")]
    return sum(float(line.split()[1]) for line in counts if '"miss"' not in line)


def large_file(folder: Path) -> Path:
    """An image of 8 MB, most of which its digest alone looks at."""
    Image.new("RGB", (512, 512), "navy").save(folder / "large.png")
    with (folder / "large.png").open("ab") as file:
        file.write(bytes(8 * 10**6))
    return folder / "large.png"


def main() -> None:
    """Prints every round and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--clients", type=int, default=16)
    given = parser.parse_args()
    same: list[float] = []
    other: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = make_files(folder, given.images)
        one, large = [files[0]] * given.images, [large_file(folder)] * _LONE
        with (
            service(HERE, folder / "off.log") as off,
            service(HERE, folder / "on.log", AGIQA_CACHE_ANSWERS="10000") as on,
        ):
            for url in (off, on):
                saturated(url, files, given.clients)  # warm
                lone(url, large[:1])
            for number in range(given.rounds):
                new = new_files(folder / str(number), files, number)
                turns = (off, on) if number % 2 else (on, off)
                repeated = {url: saturated(url, one, given.clients)[0] for url in turns}
                fresh = {url: saturated(url, new, given.clients)[0] for url in turns}
                waits = [1e3 * statistics.median(lone(on, each)) for each in (one[:_LONE], large)]
                same.append(repeated[on] / repeated[off])
                other.append(fresh[on] / fresh[off])
                print(
                    f"round {number + 1}: one image {repeated[off]:.1f} -> {repeated[on]:.1f} "
                    f"images/s; others {fresh[off]:.1f} -> {fresh[on]:.1f}; "
                    f"a lone hit {waits[0]:.1f} ms, of 8 MB {waits[1]:.1f} ms",
                    flush=True,
                )
            print(f"{hits(on):.0f} of the images were not computed with the cache")
    for title, ratios in (("one image", same), ("others", other)):
        print(
            f"{title}: {statistics.median(ratios):.2f} of the throughput without the cache "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
