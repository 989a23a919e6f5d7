"""Does an image's consistency with its own prompt beat that with another image's? That needs no
opinions, and neither the generator nor the prompt alone can answer it.
"""

from collections.abc import Sequence

import numpy as np

from training.data.samples import Sample
from training.evaluation.metrics import mean_interval
from training.evaluation.results import OWN_PROMPT, OWN_PROMPT_ALIGNED, Share

# So many other prompts an image is compared with at most, so that a part's time grows with its
# images alone: 36 prompts, the bundled model's test part, are all compared.
MOST_OTHERS = 64
# They are drawn from so many of the part's prompts, whose features a scorer keeps.
_MOST_PROMPTS = 1024
# An opinion of alignment over 3 of 5: people found more of the prompt in the image than not.
WELL_ALIGNED = 0.6


class OtherPrompts:
    """What each image of a part is compared with: every prompt of the part that is not its own but
    for case and spaces; where there are more than ``MOST_OTHERS``, so many drawn with a seed.
    """

    def __init__(self, prompts: Sequence[str]) -> None:
        distinct = list({_plain(prompt): prompt for prompt in prompts}.items())
        order = np.random.default_rng(0).permutation(len(distinct))
        self._prompts = [distinct[place] for place in order[:_MOST_PROMPTS]]

    def of(self, number: int, prompt: str) -> list[str]:
        """For image ``number`` of the part, whose own ``prompt`` that is."""
        own = _plain(prompt)
        others = [other for plain, other in self._prompts if plain != own]
        if len(others) <= MOST_OTHERS:
            return others
        rng = np.random.default_rng((0, number))
        return [others[place] for place in rng.choice(len(others), MOST_OTHERS, replace=False)]


def share_beaten(own: float, others: Sequence[float]) -> float:
    """The share of ``others`` that lie under ``own``, ties counted half; nan of none."""
    if not others:
        return float("nan")
    return float(np.mean(np.less(others, own) + np.equal(others, own) / 2))


def own_prompt_shares(samples: Sequence[Sample], beaten: Sequence[float]) -> dict[str, Share]:
    """The mean of the images' shares, by flat name: of all, and of those with a good opinion of
    alignment. Empty where there is no consistency, or the part has but one prompt.
    """
    if not beaten or not np.isfinite(beaten).all():
        return {}
    chosen: dict[str, Sequence[int]] = {
        OWN_PROMPT: range(len(beaten)),
        OWN_PROMPT_ALIGNED: [i for i, s in enumerate(samples) if (s.mos_align or 0) > WELL_ALIGNED],
    }
    figures = {}
    for name, places in chosen.items():
        if shares := [beaten[place] for place in places]:
            groups = [samples[place].group for place in places]
            figures[name] = Share(float(np.mean(shares)), mean_interval(shares, groups=groups))
    return figures


def _plain(prompt: str) -> str:
    return " ".join(prompt.lower().split())
