"""The answer: a ``Score``. Needs no torch."""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

_NO_KNOWN_WORD = "The prompt has no word that this model knows"


@dataclass(frozen=True, slots=True)
class Score:
    """Scores of one image, each in [0, 1], high = better; a head that was not asked for is None.

    ``crop_quality`` holds one value per window, in the order of the windows' boxes; ``crops``
    counts the windows. ``scene`` and ``distortion`` map a name to its probability, for the methods
    that have them; ``attributes`` the other antonym pairs of CLIP-IQA (brightness, sharpness ...)
    to the probability of the first word. ``detail``: a sentence, where there is something to be
    known of the scores.
    """

    crops: int
    quality: float | None = None
    alignment: float | None = None
    consistency: float | None = None
    scene: dict[str, float] | None = None
    distortion: dict[str, float] | None = None
    attributes: dict[str, float] | None = None
    crop_quality: tuple[float, ...] | None = None
    detail: str | None = None

    @property
    def is_finite(self) -> bool:
        """Whether every value is a number; a damaged network or a broken device gives others."""
        return all(map(math.isfinite, self._values()))

    def _values(self) -> Iterator[float]:
        yield from (v for v in (self.quality, self.alignment, self.consistency) if v is not None)
        for named in (self.scene, self.distortion, self.attributes):
            yield from (named or {}).values()
        yield from self.crop_quality or ()


def without_known_word(score: Score, heads: Collection[str]) -> Score:
    """The Score for a prompt of which the model knows no word: consistency is alignment, where the
    model tells that, and ``detail`` says so. ``heads``: those that were asked for.
    """
    if score.alignment is None:
        return replace(score, detail=f"{_NO_KNOWN_WORD}; consistency says little.")
    return replace(
        score,
        alignment=score.alignment if "alignment" in heads else None,
        consistency=score.alignment,
        detail=f"{_NO_KNOWN_WORD}; consistency is alignment.",
    )
