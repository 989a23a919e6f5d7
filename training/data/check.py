"""Looks at every image that a data set lists: is it there, can it be read, is it there twice?"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from model.errors import ImageError
from model.preprocess import images
from training.data.dataset import DataSet
from training.data.samples import Sample


@dataclass(frozen=True)
class Look:
    """What an image file turned out to be; ``broken`` says why it can't be read."""

    path: Path
    size: tuple[int, int] = (0, 0)
    digest: str = ""
    broken: str = ""


@dataclass(frozen=True)
class Findings:
    """A folder as it was found: the set it is, what that lists, and each listed file once."""

    folder: Path
    data: DataSet
    samples: Sequence[Sample]
    missing: Sequence[Path]
    files: Sequence[Look]

    @property
    def broken(self) -> list[Look]:
        """Files that are there but can't be read."""
        return [look for look in self.files if look.broken]

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """How many readable images have a size (width, height)."""
        return Counter(look.size for look in self.files if not look.broken)

    @property
    def listed_again(self) -> list[Path]:
        """Images that several rows list."""
        listed = Counter(sample.path for sample in self.samples)
        return [path for path, times in listed.items() if times > 1]

    @property
    def twins(self) -> list[list[Path]]:
        """Files that are the same, byte by byte."""
        same: dict[str, list[Path]] = {}
        for look in self.files:
            if not look.broken:
                same.setdefault(look.digest, []).append(look.path)
        return [paths for paths in same.values() if len(paths) > 1]

    @property
    def torn_twins(self) -> list[list[Path]]:
        """Those that lie in several groups: a split may put them into several parts."""
        groups = {sample.path: sample.group for sample in self.samples}
        return [paths for paths in self.twins if len({groups[path] for path in paths}) > 1]

    @property
    def usable(self) -> bool:
        """Every listed image is there, once, and can be read."""
        return not (self.missing or self.broken or self.listed_again)


def check(folder: Path, data: DataSet, *, quick: bool = False) -> Findings:
    """Reads every listed image in threads, with a progress bar; ``quick``: only its header.

    Raises:
        DataError: the annotations are not as distributed.
    """
    samples = data.annotations(folder)
    paths = list(dict.fromkeys(sample.path for sample in samples))
    there = [path for path in paths if path.is_file()]
    look = partial(_look, quick=quick)
    with ThreadPoolExecutor() as pool:
        bar = tqdm(pool.map(look, there), "check", len(there), unit="image", disable=None)
        files = list(bar)
    found = set(there)
    missing = [path for path in paths if path not in found]
    return Findings(folder, data, samples, missing, files)


def _look(path: Path, quick: bool) -> Look:
    try:
        content = path.read_bytes()
        header = images.read_header(content, max_bytes=None)
        if not quick:
            images.decode(content)
    except (ImageError, OSError) as error:
        # What follows the semicolon tells a client of the service what to do.
        return Look(path, broken=str(error).partition(";")[0].rstrip("."))
    return Look(path, (header.width, header.height), hashlib.sha256(content).hexdigest())
