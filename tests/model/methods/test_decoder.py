"""The fusion decoder: its equations, what it is blind to, and where it starts."""

import numpy as np
import pytest
import torch
from torch import Tensor

from model.methods.decoder import Attention, Decoder
from tests.model.methods import mp_iqe_reference as reference

WIDTH = 16


def decoder_of(layers: int = 3, heads: int = 4, *, trained: bool = True) -> Decoder:
    """In float64; ``trained``: with every number away from its start."""
    with torch.random.fork_rng():
        torch.manual_seed(layers)
        decoder = Decoder(WIDTH, layers, heads).double()
        if trained:
            with torch.no_grad():
                for parameter in decoder.parameters():
                    parameter.add_(0.2 * torch.randn(parameter.shape))
    return decoder.eval()


def values(*shape: int, seed: int = 0) -> Tensor:
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=noise, dtype=torch.float64)


def scores(decoder: Decoder, queries: Tensor, memory: Tensor) -> Tensor:
    with torch.no_grad():
        return decoder(decoder.ask(queries), memory)


@pytest.mark.parametrize("heads", [1, 2, 4, 16])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_scores_are_equations_12_to_14_written_out(layers: int, heads: int) -> None:
    decoder = decoder_of(layers, heads)
    queries, memory = values(20, WIDTH), values(2, 50, WIDTH, seed=1)
    ours = scores(decoder, queries, memory).tolist()
    slow = [reference.score(decoder, queries.numpy(), m.numpy(), heads) for m in memory]
    assert ours == pytest.approx(slow, abs=1e-10)
    assert abs(slow[0] - slow[1]) > 1e-3  # so that agreeing means something


@pytest.mark.parametrize("count", [9, 11, 20], ids=["scenes", "distortions", "both"])
def test_asking_is_equation_13(count: int) -> None:
    decoder, queries = decoder_of(), values(count, WIDTH)
    layer = decoder.layers[0]
    normed = reference.norm(layer.norm_self, queries.numpy())
    slow = queries.numpy() + reference.multi_head(layer.self_attention, normed, normed, 4)
    with torch.no_grad():
        assert decoder.ask(queries).numpy() == pytest.approx(slow, abs=1e-12)


def test_attention_takes_other_numbers_of_queries_than_of_keys_and_batches_both() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        attention = Attention(WIDTH, 4).double()
    queries, keys = values(2, 5, WIDTH), values(2, 7, WIDTH, seed=1)
    with torch.no_grad():
        ours = attention(queries, keys).numpy()
    slow = [
        reference.multi_head(attention, q.numpy(), k.numpy(), 4)
        for q, k in zip(queries, keys, strict=True)
    ]
    assert ours == pytest.approx(np.stack(slow), abs=1e-12)


@pytest.mark.parametrize("heads", [3, 5, 32])
def test_heads_that_do_not_divide_the_width_are_refused(heads: int) -> None:
    with pytest.raises(ValueError, match=f"{heads} heads do not divide the width 16"):
        Decoder(WIDTH, 3, heads)


def test_an_image_scores_the_same_alone_and_among_others() -> None:
    decoder, queries, memory = decoder_of(), values(20, WIDTH), values(5, 50, WIDTH, seed=1)
    together = scores(decoder, queries, memory)
    alone = torch.cat([scores(decoder, queries, one[None]) for one in memory])
    torch.testing.assert_close(together, alone, atol=1e-12, rtol=1e-12)
    assert together.std() > 1e-3


def test_the_order_of_the_image_tokens_has_no_say() -> None:
    decoder, queries, memory = decoder_of(), values(20, WIDTH), values(2, 50, WIDTH, seed=1)
    torch.testing.assert_close(
        scores(decoder, queries, memory.flip(1)), scores(decoder, queries, memory)
    )
    assert not torch.allclose(
        scores(decoder, queries, memory.flip(2)), scores(decoder, queries, memory), atol=1e-3
    )


def test_the_order_of_the_queries_has_no_say_but_each_of_them_has() -> None:
    decoder, queries, memory = decoder_of(), values(20, WIDTH), values(1, 50, WIDTH, seed=1)
    whole = scores(decoder, queries, memory)
    torch.testing.assert_close(scores(decoder, queries.flip(0), memory), whole)
    for gone in range(len(queries)):
        left = torch.cat([queries[:gone], queries[gone + 1 :]])
        assert not torch.allclose(scores(decoder, left, memory), whole, atol=1e-6)


def test_a_query_that_is_asked_twice_counts_like_once() -> None:
    """A mean and no sum: of one query repeated, self-attention and the mean give that query."""
    decoder, query, memory = decoder_of(), values(1, WIDTH), values(2, 50, WIDTH, seed=1)
    torch.testing.assert_close(
        scores(decoder, query.expand(7, -1), memory), scores(decoder, query, memory)
    )


def test_the_first_self_attention_is_done_when_the_queries_are_asked() -> None:
    decoder, queries, memory = decoder_of(), values(20, WIDTH), values(2, 50, WIDTH, seed=1)
    with torch.no_grad():
        attended = decoder.ask(queries)
        before = decoder(attended, memory)
        for layer, untouched in ((0, True), (1, False)):
            for part in ("norm_self", "self_attention"):
                for parameter in getattr(decoder.layers[layer], part).parameters():
                    parameter += torch.randn(parameter.shape)
            assert torch.equal(decoder(attended, memory), before) is untouched
        assert not torch.allclose(decoder.ask(queries), attended, atol=1e-3)


def test_nothing_is_dropped_in_training() -> None:
    decoder, queries, memory = decoder_of(), values(20, WIDTH), values(2, 50, WIDTH, seed=1)
    still = scores(decoder, queries, memory)
    assert torch.equal(scores(decoder.train(), queries, memory), still)


def test_scores_start_around_the_middle_of_their_range() -> None:
    decoder = decoder_of(trained=False)
    with torch.no_grad():
        decoder.head[2].weight.zero_()
    memory = values(4, 50, WIDTH)
    assert scores(decoder, values(20, WIDTH), memory).tolist() == [0.5] * 4


def test_scores_are_not_clipped_here() -> None:
    decoder = decoder_of()
    for bias in (-5.0, 5.0):
        with torch.no_grad():
            decoder.head[2].bias.fill_(bias)
        out = scores(decoder, values(20, WIDTH), values(3, 50, WIDTH))
        assert (out.sign() == np.sign(bias)).all()
        assert (out.abs() > 1).all()


@pytest.mark.parametrize("part", ["self_attention", "cross_attention"])
def test_queries_values_and_outputs_of_every_attention_have_a_say(part: str) -> None:
    queries, memory = values(20, WIDTH), values(2, 50, WIDTH, seed=1)
    for layer in range(3):
        for name in ("q.weight", "q.bias", "k.weight", "v.weight", "v.bias", "out.bias"):
            decoder = decoder_of()
            before = scores(decoder, queries, memory)
            with torch.no_grad():
                getattr(decoder.layers[layer], part).get_parameter(name).add_(values(WIDTH))
            assert not torch.allclose(scores(decoder, queries, memory), before, atol=1e-6)


def test_every_number_of_the_decoder_gets_a_gradient() -> None:
    decoder, queries, memory = decoder_of(), values(20, WIDTH), values(2, 50, WIDTH, seed=1)
    decoder(decoder.ask(queries), memory).square().sum().backward()
    dead = [name for name, p in decoder.named_parameters() if p.grad.abs().max() < 1e-12]
    assert dead == []
