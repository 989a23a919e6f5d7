"""Which prompts have a word that a CLIP lists, and which have none."""

import pytest
import torch
from torch import Tensor, nn

from model.clip.known_words import digests, has_known_word, known_words_of

# The first four bytes of SHA-256, as `printf cat | sha256sum` shows them.
CAT = 0x77AF778B
MOST_BYTES = 400_000  # of a checkpoint, for 80 000 words
WORDS = ("cat", "hot dog", "berry", "run", "bake", "paint", "glass", "fox", "straße", "in", "s")


@pytest.fixture(scope="module")
def known() -> Tensor:
    return digests(WORDS)


@pytest.mark.parametrize(
    "prompt",
    [
        *("cat", "a photo of zqx, CAT!", "cat's", "3 cats", "cat_1", "Hot-Dogs"),
        *("foxes", "berries", "running", "baked", "baking", "painted", "a glass", "STRASSE straße"),
    ],
)
def test_a_word_counts_in_any_case_and_plain_inflection(prompt: str, known: Tensor) -> None:
    assert has_known_word(prompt, known)


@pytest.mark.parametrize(
    "prompt",
    [
        *("", "  ", "1234 !?", "zqx wvk", "in the", "c a t s", "雨の中の猫", "scat catz"),
        *("category", "rung", "caning", "ing ed s"),
    ],
)
def test_other_words_numbers_function_words_and_single_letters_do_not(
    prompt: str, known: Tensor
) -> None:
    assert not has_known_word(prompt, known)


def test_a_clip_that_lists_nothing_knows_every_prompt() -> None:
    nothing = known_words_of(nn.Module())
    assert has_known_word("zqx", nothing)
    assert has_known_word("", nothing)


def test_the_digests_are_sorted_and_few_bytes_and_do_not_hang_on_order_or_case() -> None:
    made = digests(["cat", "dog", "a hen"])
    assert made.dtype == torch.int32
    assert made.tolist() == sorted(made.tolist())
    assert made.equal(digests(["HEN", "Dog", "cat", "cat"]))
    assert 80_000 * made.element_size() < MOST_BYTES


def test_the_digest_of_a_word_never_changes() -> None:
    assert digests(["cat"]).tolist() == [CAT]
