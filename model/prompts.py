"""Learnable prompts: one task's contexts and deep prompts, and texts that carry a context."""

from collections.abc import Sequence

import open_clip
import torch
from torch import Tensor, nn

from model.towers import TextTower


class TaskPrompts(nn.Module):
    """Everything that one task of a multi-modal prompt learner owns (CLIP-AGIQA, section II-B).

    Shapes: ``context`` [n, w_text]; ``text`` [layers_text - 1, n, w_text]; ``visual``
    [layers_vision, P, w_vision].
    """

    def __init__(
        self, context: tuple[int, int], text_layers: int, visual: tuple[int, int, int], std: float
    ) -> None:
        super().__init__()
        self.context = _normal(context, std)
        self.text = _normal((text_layers, *context), std)
        self.visual = _normal(visual, std)


def _normal(shape: tuple[int, ...], std: float) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape).normal_(std=std))


class Tokenizer:
    """CLIP's byte-pair encoding, without padding."""

    def __init__(self) -> None:
        self._bpe = open_clip.SimpleTokenizer()
        self.start: int = self._bpe.sot_token_id
        self.end: int = self._bpe.eot_token_id

    def __call__(self, text: str) -> list[int]:
        """Token ids of ``text``, without start and end."""
        return list(self._bpe.encode(text))


def encode_with_context(
    tower: TextTower,
    words: Sequence[Sequence[int]],
    context: Tensor,
    tokenizer: Tokenizer,
    deep: Tensor | None,
) -> Tensor:
    """Features [n, d] of [start, context (c vectors), words, end] for each word sequence, with deep
    text prompts.

    Shorter sequences are padded after their end token, which under the causal mask changes nothing.
    """
    longest = max(map(len, words))
    device, c = context.device, len(context)
    rows = [[*w, tokenizer.end, *[0] * (longest - len(w))] for w in words]
    start = tower.embed(torch.tensor([[tokenizer.start]] * len(words), device=device))
    tail = tower.embed(torch.tensor(rows, device=device))
    middle = context.to(tail.dtype).expand(len(words), -1, -1)
    ends = torch.tensor([1 + c + len(w) for w in words], device=device)
    return tower.encode(torch.cat([start, middle, tail], dim=1), ends, deep)


def split_prompt(ids: Sequence[int], limit: int, commas: frozenset[int]) -> list[list[int]]:
    """Cuts a prompt that is longer than ``limit`` tokens at its commas into the fewest parts that
    fit.

    A stretch without a comma that is itself too long is cut at ``limit``.
    """
    if len(ids) <= limit:
        return [list(ids)]
    pieces: list[list[int]] = [[]]
    for token in ids:
        if len(pieces[-1]) == limit:
            pieces.append([])
        pieces[-1].append(token)
        if token in commas:
            pieces.append([])
    parts: list[list[int]] = []
    for piece in filter(None, pieces):
        if parts and len(parts[-1]) + len(piece) <= limit:
            parts[-1] += piece
        else:
            parts.append(piece)
    return parts
