"""The answer: a ``Score``. Needs no torch."""

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Score:
    """Scores of one image, each in [0, 1], high = better; a head that was not asked for is None.

    ``crop_quality`` holds one value per window, in the order of the windows' boxes; ``crops``
    counts the windows. ``scene`` and ``distortion`` map a name to its probability, for the methods
    that have them; ``attributes`` the other antonym pairs of CLIP-IQA (brightness, sharpness ...)
    to the probability of the first word.
    """

    crops: int
    quality: float | None = None
    alignment: float | None = None
    consistency: float | None = None
    scene: dict[str, float] | None = None
    distortion: dict[str, float] | None = None
    attributes: dict[str, float] | None = None
    crop_quality: tuple[float, ...] | None = None

    @property
    def is_finite(self) -> bool:
        """Whether every value is a number; a damaged network or a broken device gives others."""
        return all(map(math.isfinite, self._values()))

    def _values(self) -> Iterator[float]:
        yield from (v for v in (self.quality, self.alignment, self.consistency) if v is not None)
        for named in (self.scene, self.distortion, self.attributes):
            yield from (named or {}).values()
        yield from self.crop_quality or ()
