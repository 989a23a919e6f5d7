"""The answer: a ``Score``. Needs no torch."""

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
