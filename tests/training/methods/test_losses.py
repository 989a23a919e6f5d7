import pytest
import torch

from training.methods.losses import (
    binary_fidelity,
    captioned,
    contrastive,
    fidelity,
    fidelity_of_classes,
    multi_hot,
    ranking,
    shuffled_margin,
    soft_cross_entropy,
    thurstone_fidelity,
)

PREDICTED = torch.tensor([0.2, 0.5, 0.9])
TARGET = torch.tensor([0.1, 0.6, 0.8])
ALL = torch.ones(3, 3, dtype=torch.bool)


def test_losses_have_the_values_that_their_formulas_give() -> None:
    right = ranking(PREDICTED, TARGET, ALL)
    wrong = ranking(PREDICTED, TARGET.flip(0), ALL)
    pairs = torch.tensor([0.3, 0.7, 0.4]) / 0.1
    assert right == pytest.approx(torch.log1p(torch.exp(-pairs)).mean().item(), abs=1e-6)
    assert wrong == pytest.approx(torch.log1p(torch.exp(pairs)).mean().item(), abs=1e-5)
    matched, shuffled = torch.tensor([0.5, 0.9]), torch.tensor([[0.45, 0.5], [0.2, 0.9]])
    shares = torch.tensor([[0.8, 0.2], [0.5, 0.5]])
    even = (0.8 * 0.05 + 0.2 * 0.1 + 0.5 * 0.1) / 2
    assert shuffled_margin(matched, shuffled, shares, 0.1) == pytest.approx(even)


def test_ranking_ignores_ties_and_keeps_the_graph() -> None:
    predicted = PREDICTED.clone().requires_grad_()
    loss = ranking(predicted, torch.full((3,), 0.5), ALL)
    loss.backward()
    assert loss == 0
    assert predicted.grad is not None


def test_fidelity_sees_only_the_marked_pairs() -> None:
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    good = fidelity(torch.tensor([0.0, 1.0, 0.0]), TARGET, same)
    bad = fidelity(torch.tensor([1.0, 0.0, 0.0]), TARGET, same)
    assert good < 0.01 < bad
    alone = torch.eye(3, dtype=torch.bool)
    assert fidelity(PREDICTED, TARGET, alone) == 0


def test_contrastive_falls_when_partners_agree() -> None:
    texts = torch.eye(3)
    matches = torch.eye(3, dtype=torch.bool)
    scale = torch.tensor(10.0)
    agreeing = contrastive(texts, texts, matches, scale)
    crossed = contrastive(texts.roll(1, 0), texts, matches, scale)
    assert agreeing < 0.01 < crossed


def test_a_caption_counts_as_far_as_its_image_is_trusted() -> None:
    texts, scale = torch.eye(4), torch.tensor(10.0)  # the last one is nobody's
    own = torch.tensor([0, 1])
    images = torch.stack([texts[0], texts[3]])  # the second one shows something else
    trusting, doubting = (
        captioned(images, texts, own, scale, torch.tensor([1.0, trust])) for trust in (1.0, 0.0)
    )
    right = captioned(texts[:2], texts, own, scale, torch.ones(2))
    assert right < 0.01
    assert doubting < 0.01
    assert trusting > 1


def test_ranking_sees_only_the_marked_pairs() -> None:
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    assert ranking(PREDICTED, TARGET, same) == pytest.approx(
        torch.log1p(torch.exp(torch.tensor(-3.0))).item(), abs=1e-6
    )


def test_thurstone_fidelity_is_that_of_the_normal_distribution() -> None:
    same = torch.ones(2, 2, dtype=torch.bool)
    loss = thurstone_fidelity(torch.tensor([1.0, 3.0]), torch.tensor([0.2, 0.6]), same)
    p_hat = torch.distributions.Normal(0, 1).cdf(torch.tensor(2 / 2**0.5))
    assert loss == pytest.approx((1 - p_hat.sqrt()).item(), abs=1e-3)


def test_fidelity_of_labels_is_nothing_when_right_and_one_when_wrong() -> None:
    truth = torch.tensor([[1.0, 0.0, 0.0]])
    wrong = torch.tensor([[0.0, 1.0, 0.0]])
    assert binary_fidelity(truth, truth).max() < 1e-3
    assert binary_fidelity(wrong, truth)[0, :2].min() > 0.99
    assert fidelity_of_classes(truth, truth) == pytest.approx(0, abs=1e-3)
    assert fidelity_of_classes(wrong, truth) == pytest.approx(1, abs=1e-3)
    half = torch.tensor([[0.5, 0.5, 0.0]])
    assert fidelity_of_classes(half, truth) == pytest.approx(1 - 0.5**0.5, abs=1e-3)


def test_soft_targets_share_the_labels_and_unlabelled_images_count_nothing() -> None:
    targets = multi_hot([("a", "c"), (), ("b",), ("",)], ["a", "b", "c"])
    assert targets.tolist() == [[0.5, 0, 0.5], [0, 0, 0], [0, 1, 0], [0, 0, 0]]
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    log_p = logits.log_softmax(1)
    expected = -(0.5 * (log_p[0, 0] + log_p[0, 2]) + log_p[2, 1]) / 2
    loss = soft_cross_entropy(logits, targets)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[[1, 3]].abs().max() == 0
    assert soft_cross_entropy(logits, torch.zeros(4, 3)) == 0
