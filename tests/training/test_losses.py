import pytest
import torch

from training.losses import contrastive, fidelity, ranking, shuffled_margin

PREDICTED = torch.tensor([0.2, 0.5, 0.9])
TARGET = torch.tensor([0.1, 0.6, 0.8])


def test_losses_have_the_values_that_their_formulas_give() -> None:
    right, wrong = ranking(PREDICTED, TARGET), ranking(PREDICTED, TARGET.flip(0))
    pairs = torch.tensor([0.3, 0.7, 0.4]) / 0.1
    assert right == pytest.approx(torch.log1p(torch.exp(-pairs)).mean().item(), abs=1e-6)
    assert wrong == pytest.approx(torch.log1p(torch.exp(pairs)).mean().item(), abs=1e-5)
    matched, shuffled = torch.tensor([0.5, 0.9]), torch.tensor([0.45, 0.2])
    assert shuffled_margin(matched, shuffled) == pytest.approx(0.025)


def test_ranking_ignores_ties_and_keeps_the_graph() -> None:
    predicted = PREDICTED.clone().requires_grad_()
    loss = ranking(predicted, torch.full((3,), 0.5))
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
