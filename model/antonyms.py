"""Antonym pairs: the probability that an image is described by the first of two texts (CLIP-IQA,
Wang et al., AAAI 2023, Eq. 2), which every method here but LIQE and MP-IQE reads quality from.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from model.network import FoldedFeatures, ReadsQuality, Views
from model.scores import Score


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

    def score(self, views: Views) -> Score:
        """Each pair's probability, mean over the windows."""
        each = {
            name: positive_probability(views.all, pair, self.scale)
            for name, pair in self.pairs.items()
        }
        quality = each.pop("quality")
        windows = len(views.windows)
        return Score(
            windows,
            float(quality.mean()),
            attributes={name: float(values.mean()) for name, values in each.items()} or None,
            crop_quality=tuple(quality[:windows].tolist()),
        )
