"""The fusion decoder of MP-IQE: text features ask, image tokens answer (arXiv 2404.14949, Eq. 12 to
14).

    Q' = MHSA(Norm Q) + Q,   S = MLP(MHCA(Norm Q', I', I') + Q')
"""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from model.clip.towers import join_heads, split_heads


class Attention(nn.Module):
    """Multi-head attention of [B, n, d] queries over [B, m, d] keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide the width {width}")
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        # A bias of the keys would add the same to every logit of a query: the softmax cancels it.
        self.k = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """[B, n, d]; keys are the values too."""
        projected = self.q(queries), self.k(keys), self.v(keys)
        q, k, v = (split_heads(x, self.heads) for x in projected)
        out = F.scaled_dot_product_attention(q, k, v)
        return cast(Tensor, self.out(join_heads(out)))


class DecoderLayer(nn.Module):
    """Pre-norm: self-attention of the queries, cross-attention to the image, feed-forward."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(width)
        self.norm_cross = nn.LayerNorm(width)
        self.norm_mlp = nn.LayerNorm(width)
        self.self_attention = Attention(width, heads)
        self.cross_attention = Attention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def ask(self, queries: Tensor) -> Tensor:
        """Q' = MHSA(Norm Q) + Q (Eq. 13): needs no image."""
        normed = self.norm_self(queries)
        return queries + self.self_attention(normed, normed)

    def answer(self, attended: Tensor, memory: Tensor) -> Tensor:
        """MHCA(Norm Q', I', I') + Q' (Eq. 14), then the feed-forward part."""
        x = attended + self.cross_attention(self.norm_cross(attended), memory)
        return x + self.mlp(self.norm_mlp(x))


class Decoder(nn.Module):
    """A stack of layers and the MLP that reads one score off each query, averaged."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        nn.init.constant_(cast(Tensor, self.head[-1].bias), 0.5)  # the middle of the score's range

    def ask(self, queries: Tensor) -> Tensor:
        """The first layer's self-attended queries [n, d] of the text features [n, d]: constants at
        inference.
        """
        return self._layers[0].ask(queries[None])[0]

    def forward(self, attended: Tensor, memory: Tensor) -> Tensor:
        """Scores [B] of self-attended queries [n, d] and memory [B, 1 + patches, d]."""
        x = self._layers[0].answer(attended.expand(len(memory), -1, -1), memory)
        for layer in self._layers[1:]:
            x = layer.answer(layer.ask(x), memory)
        return self.head(self.norm(x)).squeeze(-1).mean(-1)

    @property
    def _layers(self) -> Sequence[DecoderLayer]:
        return cast(Sequence[DecoderLayer], self.layers)
