"""What is known of a data set as such, stated once: its scale, its direction, its files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from model.config import ScoreRange
from training.data.samples import Sample
from training.errors import DataError

# Share of the scale by which a mean opinion may lie outside of it.
_BEYOND = 0.05


@dataclass(frozen=True)
class DataSet:
    """A set as distributed.

    ``annotations`` reads what the set lists, whether or not the image files are there, with scores
    in [0, 1], high = better. ``scale`` is the lowest and the highest of its opinion scores;
    ``lower_better``: of DMOS, where the lowest is the best. ``marks`` are paths (glob patterns)
    that a folder of this set has, all of them; "|" stands between two that replace each other.
    ``split_by`` says what a split keeps together, ``images`` how many it lists as distributed,
    ``about`` is for cards.
    """

    name: str
    annotations: Callable[[Path], list[Sample]]
    scale: tuple[float, float]
    marks: tuple[str, ...]
    split_by: str
    images: int
    about: str
    lower_better: bool = False

    @property
    def score_range(self) -> ScoreRange:
        """The scale as a checkpoint states it; where ``lower_better``, that of mirrored scores."""
        low, high = self.scale
        return ScoreRange(low=low, high=high)

    def is_in(self, folder: Path) -> bool:
        """Whether a folder looks like this set."""
        return all(
            any(any(folder.glob(pattern)) for pattern in mark.split("|")) for mark in self.marks
        )

    def read(self, folder: Path) -> list[Sample]:
        """The rated images whose file is there.

        Raises:
            DataError: the annotations are not as distributed, or none of the images is there.
        """
        listed = self.annotations(folder)
        samples = [sample for sample in listed if sample.path.is_file()]
        if not samples:
            raise DataError(f"{folder} holds none of the {len(listed)} images that it lists")
        return samples

    def whole(self, samples: list[Sample]) -> list[Sample]:
        """The samples, which are as many as this set has images.

        Raises:
            DataError: they are more, or fewer, or an image stands there twice.
        """
        listed = len({sample.path for sample in samples})
        if not len(samples) == listed == self.images:
            raise DataError(
                f"{self.name} has {self.images} images, but its table {len(samples)} rows of "
                f"{listed}: take it as distributed, or read a part of it as a table of your own"
            )
        return samples

    def unit(self, score: float | str) -> float:
        """An opinion score of the set's own scale (a number or its text) in [0, 1], high = better.
        Means of standardised opinions leave the scale a little: those are clipped.

        Raises:
            ValueError: it lies far outside, or is no number: another scale than the set's.
        """
        low, high = self.scale
        score = float(score)
        share = (score - low) / (high - low)
        if not -_BEYOND <= share <= 1 + _BEYOND:
            raise ValueError(f"{self.name} has scores from {low:g} to {high:g}, not {score:g}")
        share = min(max(share, 0.0), 1.0)
        return 1 - share if self.lower_better else share
