"""The tokens are open_clip's, to the last id, at a cost that grows with the text and no faster."""

import random
from collections.abc import Iterator
from functools import cache
from typing import Any

import open_clip
import pytest

from model.clip import tokenizer as module
from model.clip.tokenizer import Tokenizer, merge

open_clips = cache(open_clip.SimpleTokenizer)

ORDINARY = [
    "",
    "a cat",
    "A tray of Sushi, on a wooden table; 4k, f/1.8, it's HDR!",
    "portrait of an alchemist, (masterpiece:1.2), trending on artstation, by greg rutkowski",
    "the theatre's they're we'll I've don't 1234567890 3.14159",
    "ein Fuchs überquert die Straße, ein Mädchen isst Crème brûlée",
    "一只狐狸在雪地里奔跑",
    "लाल लोमड़ी बर्फ में दौड़ रही है",
    "🦊 in the ❄️ 👩‍👩‍👧‍👦",
    "&lt;b&gt;bold &amp;amp; brave&lt;/b&gt; â€œquotedâ€\x9d  Ã©tÃ©",
    "<start_of_text> a dog <end_of_text>",
    "\t tabs\n and   spaces \u00a0\u200b",
]


def strange() -> Iterator[str]:
    """Words of few letters merge often and in odd orders; long ones, and bytes of any script."""
    draw = random.Random(0)
    for letters in ("a", "ab", "aeht", "esting", "-=!", "éü", "狐狸雪"):
        for length in (1, 2, 3, 7, 30, 250):
            yield "".join(draw.choices(letters, k=length))
    for _ in range(200):
        yield "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(1, 80)))
    for _ in range(50):
        yield "".join(chr(draw.randint(1, 0xD7FF)) for _ in range(draw.randint(1, 40)))


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_prompts_have_the_tokens_of_open_clip(text: str) -> None:
    assert Tokenizer()(text) == open_clips().encode(text)


def test_strange_texts_have_the_tokens_of_open_clip() -> None:
    tokenizer = Tokenizer()
    for text in strange():
        assert tokenizer(text) == open_clips().encode(text), ascii(text)


def test_the_pair_with_the_lowest_rank_merges_first_wherever_it_stands() -> None:
    ranks = {("b", "c"): 0, ("a", "b"): 1, ("a", "bc"): 2, ("a", "a"): 3, ("aa", "a"): 4}
    assert merge("abcab", ranks) == ["abc", "ab"]
    assert merge("aaaaa", ranks) == ["aa", "aaa"]
    assert merge("x", ranks) == ["x"]
    assert merge("", ranks) == []


class Counting(dict[Any, Any]):
    """Ranks that count how often they are looked at."""

    lookups = 0

    def get(self, *arguments: Any) -> Any:
        self.lookups += 1
        return super().get(*arguments)


def test_the_work_of_a_long_word_grows_with_its_length_and_no_faster() -> None:
    ranks = Counting(open_clips().bpe_ranks)
    draw = random.Random(0)
    word = draw.choices("abcdefghijklmnopqrstuvwxyz", k=4096)
    assert len(merge(word, ranks)) < len(word)
    assert ranks.lookups < 6 * len(word)


def test_words_that_never_come_again_take_a_bounded_memory() -> None:
    tokenizer, vocabulary = Tokenizer(), module._byte_pairs()
    bound, draw = vocabulary.bpe.cached.cache_info().maxsize, random.Random(0)
    for _ in range(bound // 400):  # a quarter more than are remembered
        tokenizer(" ".join("".join(draw.choices("abcdefgh", k=9)) for _ in range(500)))
    assert vocabulary.bpe.cached.cache_info().currsize <= bound
    assert len(vocabulary.cache) == len(vocabulary.all_special_ids)


def test_long_words_and_long_texts_are_not_remembered() -> None:
    tokenizer, words = Tokenizer(), module._byte_pairs().bpe.cached
    before = words.cache_info().currsize
    tokenizer("kq" * 500)
    assert words.cache_info().currsize == before
    texts = module._cached.cache_info().currsize
    tokenizer("kq " * 5000)
    assert module._cached.cache_info().currsize == texts


def test_a_caller_may_change_the_tokens_it_gets() -> None:
    tokenizer = Tokenizer()
    tokenizer("a red fox").clear()
    assert tokenizer("a red fox") == open_clips().encode("a red fox")
