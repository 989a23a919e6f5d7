"""Prompts: splitting at commas, and texts of any length through the text tower."""

import random

import pytest
import torch
from torch.nn import functional as F

from model.clip_agiqa import ClipAgiqa
from model.prompts import Tokenizer, split_prompt
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
        ids = []
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
