"""Consistency with the user's prompt: a diagonal bilinear head that starts as a calibrated
CLIPScore.

    A(x, u) = sigmoid( alpha * sum_d (1 + delta_d) z_d t_ud + beta . t_u + gamma . z
                       + kappa * (cos(z, t_aligned) - cos(z, t_misaligned)) + b )

z is the normalised mean over the image's views, t_u the normalised text feature of "a photo that
depicts u" with a learnable context. At the start alpha is CLIP's logit scale and delta = beta =
gamma = kappa = 0; with kappa = alpha and everything else 0 it is CLIP-AGIQA's own alignment. The
head may start as that: a backbone that has not seen the web knows less of prompts than of images.
Or as both, a part of the one and all of the other.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Where the logit of a fresh head crosses zero: a guess at a typical cosine of CLIP's. Training
# moves it.
CLIPSCORE_MIDPOINT = 0.25
# What of CLIPScore a head starts with that starts as both.
_PART = 0.3

Start = Literal["clipscore", "alignment", "both"]


class ConsistencyHead(nn.Module):
    """The head's parameters: ``context`` [c, w_text] before the user's prompt, and the bilinear
    form over d. ``start``: what a fresh head says, CLIPScore, CLIP-AGIQA's own alignment, or both.
    """

    def __init__(
        self, dim: int, context: Tensor, logit_scale: float, start: Start = "clipscore"
    ) -> None:
        super().__init__()
        scale = float(logit_scale)
        alpha = {"clipscore": scale, "alignment": 0.0, "both": _PART * scale}[start]
        self.context = nn.Parameter(context.detach().clone())
        self.alpha = nn.Parameter(torch.tensor(alpha))
        self.delta = nn.Parameter(torch.zeros(dim))
        self.beta = nn.Parameter(torch.zeros(dim))
        self.gamma = nn.Parameter(torch.zeros(dim))
        self.kappa = nn.Parameter(torch.tensor(0.0 if start == "clipscore" else scale))
        self.bias = nn.Parameter(torch.tensor(-CLIPSCORE_MIDPOINT * alpha))

    def forward(self, z: Tensor, t_user: Tensor, t_classes: Tensor) -> Tensor:
        """A(x, u) in (0, 1) for n pairs; arguments as ``logit`` has them."""
        return torch.sigmoid(self.logit(z, t_user, t_classes))

    def logit(self, z: Tensor, t_user: Tensor, t_classes: Tensor) -> Tensor:
        """That of A(x, u), for n pairs.

        Args:
            z: [n, d] normalised image features.
            t_user: [n, d] normalised features of the users' prompts.
            t_classes: [2, d] normalised features of "aligned" and "misaligned".
        """
        matched = self.alpha * (z * (1 + self.delta) * t_user).sum(-1)
        blind = self.kappa * (z @ (t_classes[0] - t_classes[1]))
        return matched + t_user @ self.beta + z @ self.gamma + blind + self.bias

    @torch.no_grad()
    def rescale(self, slope: float, offset: float) -> None:
        """Every logit times ``slope`` > 0, plus ``offset``: no rank changes."""
        for parameter in (self.alpha, self.beta, self.gamma, self.kappa, self.bias):
            parameter.mul_(slope)
        self.bias.add_(offset)


def pool_views(z: Tensor) -> Tensor:
    """Normalised mean [..., d] of the normalised features [..., views, d]."""
    return F.normalize(z.mean(-2), dim=-1)
