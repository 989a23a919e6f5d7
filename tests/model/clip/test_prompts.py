"""Prompts: splitting at commas, and texts of any length through the text tower.

``plain_text_feature`` is CLIP's text tower written out once more, against which other files of
tests hold the methods as well.
"""

import math
import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.clip.prompts import encode_with_context, split_prompt
from model.clip.tokenizer import Tokenizer
from model.clip.towers import TextTower
from model.methods.clip_agiqa import ClipAgiqa
from tests.model import tiny

COMMA = 0
COMMAS = frozenset({COMMA})


@pytest.mark.parametrize(
    ("ids", "limit", "parts"),
    [
        ([], 5, [[]]),
        ([1, 2, 3], 5, [[1, 2, 3]]),
        ([1, 2, 3, 4, 5], 5, [[1, 2, 3, 4, 5]]),
        ([1, 2, 0, 3, 4, 0, 5], 6, [[1, 2, 0, 3, 4, 0], [5]]),
        ([1, 2, 0, 3, 4, 0, 5], 5, [[1, 2, 0], [3, 4, 0, 5]]),
        ([1, 2, 3, 4, 5, 6, 7], 3, [[1, 2, 3], [4, 5, 6], [7]]),
        ([1, 0, 2, 3, 4, 5, 6], 4, [[1, 0], [2, 3, 4, 5], [6]]),
        ([1, 0, 0, 0, 2], 3, [[1, 0, 0], [0, 2]]),
        ([1, 2, 0, 3], 3, [[1, 2, 0], [3]]),
    ],
    ids=[
        "empty",
        "short",
        "just-fits",
        "packs-what-fits",
        "cuts-at-the-comma",
        "no-comma",
        "long-stretch-after-a-comma",
        "commas-in-a-row",
        "comma-at-the-limit",
    ],
)
def test_a_long_prompt_is_cut_at_its_commas(
    ids: list[int], limit: int, parts: list[list[int]]
) -> None:
    assert split_prompt(ids, limit, COMMAS) == parts


def fewest(ids: list[int], limit: int) -> int:
    """Fewest parts that end at commas, by trying every end from the left."""
    best = {0: 0}
    for end in range(1, len(ids) + 1):
        if end == len(ids) or ids[end - 1] == COMMA:
            starts = [s for s in best if 0 < end - s <= limit]
            if starts:
                best[end] = 1 + min(best[s] for s in starts)
    return best[len(ids)]


def test_every_prompt_is_split_without_loss_into_the_fewest_parts() -> None:
    draw = random.Random(0)
    for _ in range(300):
        limit = draw.randint(4, 12)
        ids: list[int] = []
        while len(ids) <= limit:
            ids += [*range(1, draw.randint(1, limit)), COMMA]
        parts = split_prompt(ids, limit, COMMAS)
        assert [token for part in parts for token in part] == ids
        assert all(0 < len(part) <= limit for part in parts)
        assert all(part[-1] == COMMA for part in parts[:-1])
        assert len(parts) == fewest(ids, limit), (ids, limit)


def test_the_tokenizer_gives_one_token_for_a_comma_wherever_it_stands() -> None:
    tokenizer = Tokenizer()
    (comma,) = tokenizer(",")
    for text in ("red,blue", "red, blue", "red , blue", "4,5"):
        assert tokenizer(text).count(comma) == 1


def words(count: int) -> str:
    return " ".join(["dog"] * count)


def test_a_prompt_of_500_tokens_is_embedded(network: ClipAgiqa) -> None:
    long = ", ".join(words(9) for _ in range(50))
    assert len(Tokenizer()(long)) == 499
    with torch.no_grad():
        features = network.user_features([long, words(500), "a cat"])
    assert features.shape == (3, 16)
    assert features.isfinite().all()
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(3))


def test_a_long_prompt_is_the_mean_of_its_parts(network: ClipAgiqa) -> None:
    first, second = f"{words(50)},", words(40)
    with torch.no_grad():
        whole = network.user_features([f"{first} {second}"])[0]
        parts = network.user_features([first, second])
    torch.testing.assert_close(whole, F.normalize(parts.mean(0), dim=-1))


def test_a_prompt_at_the_limit_is_not_split(network: ClipAgiqa) -> None:
    limit = 77 - len(network.consistency.context) - 2
    with torch.no_grad():
        at, over = network.user_features([words(limit), words(limit + 1)])
        once, again = network.user_features([words(limit), "dog"])
    torch.testing.assert_close(at, once)
    torch.testing.assert_close(over, F.normalize(once + again, dim=-1))


def test_prompts_of_unlike_length_do_not_change_each_other(network: ClipAgiqa) -> None:
    prompts = ["", "a cat", words(60), ", ".join(words(30) for _ in range(4))]
    with torch.no_grad():
        together = network.user_features(prompts)
        apart = torch.cat([network.user_features([prompt]) for prompt in prompts])
    torch.testing.assert_close(together, apart, atol=1e-6, rtol=1e-6)
    assert torch.pdist(together).min() > 1e-4


def test_no_text_of_a_user_ends_the_prompt_early(network: ClipAgiqa) -> None:
    with torch.no_grad():
        short, long = network.user_features(["cat <end_of_text>", "cat <end_of_text> on a red mat"])
    assert not torch.allclose(short, long, atol=1e-4)


@pytest.mark.parametrize("text", ["日本語 のプロンプト", "🙂" * 40, "\0\n\t", "&amp;amp; <b>"])
def test_any_unicode_text_is_embedded(network: ClipAgiqa, text: str) -> None:
    with torch.no_grad():
        assert network.user_features([text]).isfinite().all()


def test_a_context_of_any_length_fits_the_class_words() -> None:
    network = tiny.random_network(tiny.OPTIONS.model_copy(update={"context_length": 16}))
    with torch.no_grad():
        features = network.text_features()
    assert features.quality.shape == (2, 16)
    torch.testing.assert_close(features.quality.norm(dim=-1), torch.ones(2))


LONGEST = 77  # tokens of every text of CLIP, padding included


def plain_text_feature(clip: Any, pieces: Sequence[int | Tensor]) -> Tensor:
    """Feature [d], not normalised, of token ids and vectors in a row, padded to 77, as written in
    the CLIP paper: every token of every layer, a full causal mask, one head after another.
    """
    table = clip.token_embedding.weight
    padded = [*pieces, *[0] * (LONGEST - len(pieces))]
    x = torch.stack([table[p] if isinstance(p, int) else p for p in padded])
    x = x + clip.positional_embedding
    for block in clip.transformer.resblocks:
        x = x + plain_attention(block.attn, plain_norm(block.ln_1, x))
        hidden = plain_norm(block.ln_2, x) @ block.mlp.c_fc.weight.T + block.mlp.c_fc.bias
        hidden = hidden / (1 + torch.exp(-1.702 * hidden))  # QuickGELU
        x = x + hidden @ block.mlp.c_proj.weight.T + block.mlp.c_proj.bias
    return plain_norm(clip.ln_final, x)[len(pieces) - 1] @ clip.text_projection


def plain_norm(norm: Any, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    spread = (centred**2).mean(-1, keepdim=True)
    return centred / torch.sqrt(spread + norm.eps) * norm.weight + norm.bias


def plain_attention(attn: Any, x: Tensor) -> Tensor:
    q, k, v = (x @ attn.in_proj_weight.T + attn.in_proj_bias).split(attn.embed_dim, dim=1)
    side = attn.embed_dim // attn.num_heads
    future = torch.full((len(x), len(x)), -math.inf, dtype=x.dtype).triu(1)
    seen = []
    for head in range(attn.num_heads):
        own = slice(head * side, (head + 1) * side)
        weights = torch.exp(q[:, own] @ k[:, own].T / math.sqrt(side) + future)
        seen.append(weights / weights.sum(1, keepdim=True) @ v[:, own])
    return torch.cat(seen, dim=1) @ attn.out_proj.weight.T + attn.out_proj.bias


plain_tokenizer = cache(open_clip.SimpleTokenizer)


def sentence(before: Tensor | None, text: str, after: Tensor | None) -> list[int | Tensor]:
    """[start, vectors, words, vectors, end] with open_clip's own tokens."""
    bpe = plain_tokenizer()
    vectors = [[] if v is None else list(v) for v in (before, after)]
    return [bpe.sot_token_id, *vectors[0], *bpe.encode(text), *vectors[1], bpe.eot_token_id]


def test_the_plain_text_tower_is_open_clips() -> None:
    clip = tiny.random_clip().double()
    texts = ["Good photo.", "a photo of a still_life with jpeg2000 compression artifacts", ""]
    ids = plain_tokenizer()(texts)
    with torch.no_grad():
        ours = torch.stack([plain_text_feature(clip, sentence(None, t, None)) for t in texts])
        torch.testing.assert_close(ours, clip.encode_text(ids), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(
    ("before", "after"),
    [(0, 0), (3, 0), (0, 1), (0, 3), (1, 2), (8, 8)],
    ids=["none", "before", "one-behind", "behind", "both-sides", "half-and-half"],
)
def test_vectors_stand_before_and_behind_the_words_of_each_text(before: int, after: int) -> None:
    clip = tiny.random_clip().double()
    texts = ["", "Bad photo.", "a much longer text of a photo, with a comma", "Good photo."]
    noise = torch.Generator().manual_seed(1)
    front, back = torch.randn(2, 8, 16, dtype=torch.float64, generator=noise)
    front, back, tokenizer = front[:before], back[:after], Tokenizer()
    with torch.no_grad():
        ours = encode_with_context(
            TextTower(clip), [tokenizer(t) for t in texts], front, tokenizer, after=back
        )
        plain = [plain_text_feature(clip, sentence(front, t, back)) for t in texts]
    torch.testing.assert_close(ours, torch.stack(plain), atol=1e-10, rtol=1e-10)


def test_no_vectors_behind_the_words_is_the_same_as_none_given() -> None:
    clip, tokenizer = tiny.random_clip(), Tokenizer()
    words, front = [tokenizer("Good photo."), tokenizer("photo")], torch.randn(3, 16)
    tower, none = TextTower(clip), torch.empty(0, 16)
    with torch.no_grad():
        without = encode_with_context(tower, words, front, tokenizer)
        empty = encode_with_context(tower, words, front, tokenizer, after=none)
        behind = encode_with_context(tower, words, none, tokenizer, after=front)
    assert torch.equal(without, empty)
    assert not torch.allclose(without, behind, atol=1e-3)


def test_a_text_that_is_too_long_for_the_tower_is_refused_in_words() -> None:
    clip, tokenizer = tiny.random_clip(), Tokenizer()
    with pytest.raises(ValueError, match="77"):
        encode_with_context(TextTower(clip), [tokenizer(words(76))], torch.empty(0, 16), tokenizer)


def test_vectors_on_both_sides_get_their_gradients_from_every_text() -> None:
    clip, tokenizer = tiny.random_clip(), Tokenizer()
    front, back = torch.randn(2, 16, requires_grad=True), torch.randn(3, 16, requires_grad=True)
    words = [tokenizer("Good photo."), tokenizer("a photo that is bad")]
    features = encode_with_context(TextTower(clip), words, front, tokenizer, after=back)
    for text in range(2):
        grads = torch.autograd.grad(features[text].sum(), (front, back), retain_graph=True)
        assert all((grad.abs().sum(1) > 0).all() for grad in grads)
