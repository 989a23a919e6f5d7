"""Antonym pairs: the probability that an image is described by the first of two texts (CLIP-IQA,
Wang et al., AAAI 2023, Eq. 2), which several methods read quality from.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from model.methods.network import FoldedFeatures, ReadsQuality, Views
from model.scores import Score

# The pair of texts that stands for quality where nothing is learned, the better one first.
QUALITY = ("Good photo.", "Bad photo.")


def positive_probability(z: Tensor, classes: Tensor, scale: Tensor) -> Tensor:
    """softmax(s * cos(z, t_positive / t_negative))[positive] of normalised features; [..., d] ->
    [...].
    """
    return (scale * (z @ classes.T)).softmax(-1)[..., 0]


class FoldedAntonyms(FoldedFeatures, ReadsQuality):
    """A frozen tower and constant pairs of text features [2, d] by name; "quality" is the score,
    the others are attributes.
    """

    def __init__(self, vision: nn.Module, pairs: Mapping[str, Tensor], scale: Tensor) -> None:
        super().__init__(vision)
        self.pairs = {name: pair.detach().float().cpu() for name, pair in pairs.items()}
        self.scale = scale.detach().float().cpu()

    def probabilities(self, views: Views, name: str) -> Tensor:
        """Of each view, under the pair of that name."""
        return positive_probability(views.all, self.pairs[name], self.scale)

    def value(self, views: Views) -> Tensor:
        return self.probabilities(views, "quality").mean()

    def score(self, views: Views) -> Score:
        means = {name: float(self.probabilities(views, name).mean()) for name in self.pairs}
        windows = len(views.windows)
        return Score(
            windows,
            means.pop("quality"),
            attributes=means or None,
            crop_quality=tuple(self.probabilities(views, "quality")[:windows].tolist()),
        )
