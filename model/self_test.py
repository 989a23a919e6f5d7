"""The self-test of a checkpoint: it must give the scores that it gave when it was sealed, for a
picture that a formula draws. Needs no torch itself.
"""

import logging
import math
from typing import Protocol, get_args

import numpy as np
from PIL import Image

from model.config import CheckpointConfig, CropPolicy, Head, Picture, SelfTest
from model.errors import CheckpointError
from model.scores import Score

logger = logging.getLogger(__name__)

_SIDE = 256
_PROMPT = "a red lighthouse"
# bfloat16 and other libraries may round so much away, and no more.
_TOLERANCE = 0.01
_PICTURES: tuple[Picture, ...] = get_args(Picture)
# As far from both ends of the scale any score is as good as another.
_CLEAR = 0.05


class Scoring(Protocol):
    """What is tested: a ``model.scorer.Scorer``."""

    config: CheckpointConfig

    @property
    def precision(self) -> str:
        """In which type it computes, and on which device."""

    def with_policy(self, policy: CropPolicy) -> "Scoring":
        """The same network with other crops."""

    def score(self, image: Image.Image, prompt: str | None = None) -> Score:
        """The Score of an image."""


def draw_picture(number: int) -> Image.Image:
    """A picture, RGB, 256 x 256, of integers alone, so that every machine draws the same one:
    1 rings of three widths, 2 waves of four lengths over a ramp, 3 a hill under a sky with a sun.
    They never change.
    """
    y, x = np.mgrid[:_SIDE, :_SIDE]
    if number == 1:
        from_centre = (x - 128) ** 2 + (y - 128) ** 2
        planes = [_wave(from_centre >> shift) for shift in (6, 7, 8)]
    elif number == 2:
        waves = _wave(x + (y >> 2)) + _wave(3 * x - 2 * y) // 2
        waves += _wave(7 * x + 5 * y) // 4 + _wave(13 * y - 11 * x) // 8
        grey = waves * 8 // 15
        planes = [grey, (grey + y) // 2, (255 - grey + x) // 2]
    else:
        grass = _wave(23 * x + 7 * y) // 8 + _wave(31 * y - 17 * x + (x * y >> 6)) // 8
        ground = (60 + grass, 110 + grass - (y >> 3), 40 + grass // 2)
        sky = (90 + (y >> 2), 140 + (y >> 2), 230 - (y >> 3))
        is_ground = y > 130 + (_wave(x) >> 2) - (_wave(2 * x + 40) >> 4)
        is_sun = (x - 190) ** 2 + (y - 60) ** 2 < 900
        lights = zip(ground, sky, (255, 240, 200), strict=True)
        planes = [np.where(is_ground, g, np.where(is_sun, sun, s)) for g, s, sun in lights]
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8))


def _wave(phase: np.ndarray) -> np.ndarray:
    """A sine of 256 steps between 0 and 255, its halves parabolas."""
    half = phase & 127
    arch = half * (128 - half) >> 5
    return np.where(phase & 128, 128 - arch, np.minimum(127 + arch, 255))


def measure(scorer: Scoring) -> SelfTest:
    """What the scorer gives by every head of its checkpoint, for the picture by which more can be
    seen: a score at the end of the scale would hide what went beyond.

    Raises:
        CheckpointError: values that are no numbers in [0, 1].
    """
    tests = [run(scorer, picture) for picture in _PICTURES]
    return max(tests, key=lambda test: min(min(v, 1 - v, _CLEAR) for v in test.scores.values()))


def run(scorer: Scoring, picture: Picture) -> SelfTest:
    """What it gives for one of the pictures.

    Raises:
        CheckpointError: values that are no numbers in [0, 1].
    """
    config = scorer.config
    prompt = _PROMPT if "consistency" in config.heads else None
    score = scorer.with_policy(config.crop_policy).score(draw_picture(picture), prompt)
    scores: dict[Head, float] = {head: getattr(score, head) for head in config.heads}
    values: dict[str, float] = {str(head): value for head, value in scores.items()}
    for others in (score.scene, score.distortion, score.attributes):
        values |= others or {}
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise CheckpointError(
                f"{config.name}: the self-test gives {name} {value}, which is no score: its "
                "weights are damaged"
            )
    rounded = {head: round(value, 6) for head, value in scores.items()}
    return SelfTest(picture=picture, prompt=prompt, scores=rounded)


def check(scorer: Scoring) -> None:
    """Refuses a scorer whose scores are not those that its checkpoint was sealed with; one that was
    not sealed must give numbers at least.

    Raises:
        CheckpointError: names the head and both scores.
    """
    name, sealed = scorer.config.name, scorer.config.self_test
    found = run(scorer, sealed.picture if sealed else 1).scores
    if sealed is None:
        logger.warning(
            "%s is not sealed, so nothing shows whether its files are those that were measured; "
            "`agiqa seal DIR` writes their digests and a test score into config.json",
            name,
        )
        return
    for head, wanted in sealed.scores.items():
        if abs(found.get(head, math.inf) - wanted) > _TOLERANCE:
            raise CheckpointError(
                f"{name}: the self-test gives {head} {found.get(head, math.nan):.4f} in "
                f"{scorer.precision}, and config.json says {wanted:.4f}. Try dtype "
                "float32 or another device; if the checkpoint was changed on purpose, seal it "
                "anew: agiqa seal DIR"
            )
