"""Consistency is brought to mean what it says, on images that it has not learned from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from model.methods.clip_agiqa import ClipAgiqaOptions
from tests.model import tiny
from training.data.samples import Sample
from training.methods.clip_agiqa import ClipAgiqaObjective, ClipAgiqaWeights, platt

OPINIONS = np.random.default_rng(0).uniform(0.1, 0.9, 64)


def rated(number: int, alignment: float | None) -> Sample:
    return Sample("a set", Path(f"{number}.png"), "a group", 0.5, alignment, f"prompt {number}")


def test_platt_finds_the_two_numbers_that_were_put_in() -> None:
    slope, offset = platt(expit(0.5 * logit(OPINIONS) - 0.7), OPINIONS)
    assert slope == pytest.approx(2, rel=1e-4)
    assert offset == pytest.approx(1.4, rel=1e-4)


def test_no_handful_of_images_turns_the_order_around() -> None:
    slope, _ = platt(1 - OPINIONS[:3], OPINIONS[:3])
    assert slope > 0


def test_certain_predictions_leave_the_numbers_finite() -> None:
    assert np.isfinite(platt(np.array([0.0, 1.0]), np.array([0.2, 0.7]))).all()


def test_a_calibrated_head_has_the_opinions_mean_and_its_own_order() -> None:
    torch.manual_seed(0)
    network = tiny.fresh_network(ClipAgiqaOptions(consistency_start="both"))
    task = ClipAgiqaObjective(network, ClipAgiqaWeights(), whole=False)
    head = network.consistency
    assert head is not None
    noise = torch.randn(3, 64, tiny.ARCHITECTURE.embed_dim)
    z, users = torch.nn.functional.normalize(noise[:2], dim=-1)
    with torch.no_grad():
        classes = network.text_features().alignment
        assert classes is not None
        arguments = (z, users, classes)
        before = head(*arguments)
        samples = [rated(i, opinion) for i, opinion in enumerate(OPINIONS)]
        samples.append(rated(64, None))
        predicted = {"consistency": np.append(before.double().numpy(), 0.5)}
        task.calibrate(predicted, samples)
        after = head(*arguments)
    assert torch.equal(before.argsort(), after.argsort())
    nearer = np.square(after.numpy() - OPINIONS).mean()
    assert nearer < np.square(before.numpy() - OPINIONS).mean()
    assert after.mean() == pytest.approx(OPINIONS.mean(), abs=0.02)
