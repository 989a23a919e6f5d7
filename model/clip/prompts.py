"""Learnable prompts: one task's contexts and deep prompts, and texts that carry a context."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.clip.tokenizer import Tokenizer
from model.clip.towers import TextTower


class TaskPrompts(nn.Module):
    """Everything that one task of a multi-modal prompt learner owns (CLIP-AGIQA, section II-B).

    Shapes: ``context`` [n, w_text]; ``text`` [layers_text - 1, n, w_text]; ``visual``
    [layers_vision, P, w_vision].
    """

    def __init__(
        self, context: tuple[int, int], text_layers: int, visual: tuple[int, int, int], std: float
    ) -> None:
        super().__init__()
        self.context = random_prompts(context, std)
        self.text = random_prompts((text_layers, *context), std)
        self.visual = random_prompts(visual, std)


def random_prompts(shape: tuple[int, ...], std: float) -> nn.Parameter:
    """Prompts of that shape as training starts them: normal, around 0."""
    return nn.Parameter(torch.empty(shape).normal_(std=std))


def encode_with_context(
    tower: TextTower,
    words: Sequence[Sequence[int]],
    context: Tensor,
    tokenizer: Tokenizer,
    deep: Tensor | None = None,
    *,
    after: Tensor | None = None,
) -> Tensor:
    """Features [n, d] of [start, context, words, after, end] for each word sequence.

    Shorter sequences are padded after their end token, which under the causal mask changes nothing.

    Args:
        tower: the text tower.
        words: n sequences of token ids.
        context: [c, w] vectors before the words; may be empty.
        tokenizer: gives start and end.
        deep: deep text prompts, see ``TextTower.encode``.
        after: [a, w] vectors behind the words; none by default.

    Raises:
        ValueError: a text that is too long for the tower.
    """
    before, behind = len(context), 0 if after is None else len(after)
    rows = [[tokenizer.start, *[0] * before, *w, *[0] * behind, tokenizer.end] for w in words]
    longest = max(map(len, rows))
    if longest > tower.context_length:
        raise ValueError(
            f"a text has {longest} tokens with its context, start and end; this backbone takes "
            f"{tower.context_length}: shorten it"
        )
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=context.device)
    x = tower.embed(ids)
    x = torch.cat([x[:, :1], context.to(x.dtype).expand(len(x), -1, -1), x[:, 1 + before :]], dim=1)
    if after is not None:
        starts = torch.tensor([1 + before + len(w) for w in words], device=x.device)
        columns = starts[:, None] + torch.arange(behind, device=x.device)
        row = torch.arange(len(x), device=x.device)[:, None]
        x = x.index_put((row, columns), after.to(x.dtype))
    ends = torch.tensor([len(row) - 1 for row in rows], device=x.device)
    return tower.encode(x, ends, deep)


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
