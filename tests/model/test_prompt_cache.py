"""What a scorer remembers of prompts, and how long they may be."""

import copy
from collections.abc import Sequence
from typing import Self, cast

import pytest
import torch

from model.clip.tokenizer import Tokenizer
from model.errors import PromptTooLong
from model.methods.network import Network
from model.scorer import Scorer
from tests.model import tiny


class Recorder:
    """A network that only embeds, and writes down what it was asked for."""

    input_size = 224
    tokenizer = Tokenizer()

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    known_words = torch.empty(0, dtype=torch.int32)  # all of them count as known

    def eval(self) -> Self:
        return self

    fold = eval

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Nothing to place."""

    def embed(self, prompts: Sequence[str]) -> torch.Tensor:
        self.asked.append(list(prompts))
        return torch.tensor([[float(len(p)), float(sum(p.encode()))] for p in prompts])


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def recorded(recorder: Recorder) -> Scorer:
    network = cast(Network, recorder)
    return Scorer(tiny.config_of(), network, device="cpu", dtype="float32")


def test_a_known_prompt_is_not_computed_again(recorder: Recorder, recorded: Scorer) -> None:
    assert not recorded.knows("a cat")
    first = recorded.embed(["a cat"])
    again = recorded.embed(["a cat"])
    assert recorder.asked == [["a cat"]]
    assert recorded.knows("a cat")
    assert torch.equal(first, again)


def test_only_the_new_prompts_of_a_call_are_computed_and_each_once(
    recorder: Recorder, recorded: Scorer
) -> None:
    recorded.embed(["b"])
    recorded.embed(["c", "b", "a", "c"])
    assert recorder.asked == [["b"], ["c", "a"]]


def test_features_come_in_the_order_of_the_prompts(scorer: Scorer) -> None:
    scorer.embed(["b"])
    prompts = ["a", "b", "a", "c", "b"]
    features = scorer.embed(prompts)
    assert features.shape == (5, 16)
    for prompt, feature in zip(prompts, features, strict=True):
        assert torch.equal(feature, scorer.embed([prompt])[0])
    assert torch.pdist(scorer.embed(["a", "b", "c"])).min() > 1e-4


def test_the_prompt_cache_forgets_the_least_recently_used(recorded: Scorer) -> None:
    bound = 4096
    prompts = ["first", "second", *(f"number {i}" for i in range(bound - 2))]
    recorded.embed(prompts)
    assert all(recorded.knows(p) for p in prompts)
    recorded.embed(["first"])  # used again, so "second" is now the oldest
    recorded.embed(["one more"])
    assert [recorded.knows(p) for p in ("first", "second", "number 0")] == [True, False, True]
    assert sum(recorded.knows(p) for p in [*prompts, "one more"]) == bound


def test_a_call_with_more_prompts_than_the_cache_holds_is_answered(recorded: Scorer) -> None:
    prompts = [f"{i}" for i in range(5000)]
    features = recorded.embed(prompts)
    assert len(features) == 5000
    assert sum(recorded.knows(p) for p in prompts) == 4096


def test_a_prompt_of_more_tokens_than_the_scorer_takes_is_refused_and_nothing_embedded(
    recorder: Recorder, recorded: Scorer
) -> None:
    longest, longer = " ".join(["dog"] * 512), " ".join(["dog"] * 513)
    recorded.check_prompt(longest)
    for verb in (lambda: recorded.check_prompt(longer), lambda: recorded.embed(["a", longer])):
        with pytest.raises(PromptTooLong, match=r"has 513 tokens .* 512 at most; shorten it"):
            verb()
    assert recorder.asked == []
    assert len(recorded.embed([longest])) == 1


def test_the_limit_of_tokens_is_the_caller_s_and_none_of_other_heads(scorer: Scorer) -> None:
    short = copy.copy(scorer)
    short.max_prompt_tokens = 3
    image, long = tiny.picture(224, 224), "a prompt of five tokens"
    with pytest.raises(ValueError, match="3 at most"):
        short.score(image, long)
    assert short.score(image, long, ("quality",)).quality is not None
