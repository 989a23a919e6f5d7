import pytest
import torch
from torch import nn

from training.engine.weights import Weights, copy_into


def parameters(*values: float) -> dict[str, nn.Parameter]:
    return {f"p{i}": nn.Parameter(torch.tensor([value])) for i, value in enumerate(values)}


def move(of: dict[str, nn.Parameter], by: float) -> None:
    with torch.no_grad():
        for p in of.values():
            p.add_(by)


def test_the_average_follows_by_its_decay_and_faster_at_the_beginning() -> None:
    own = parameters(1.0, -2.0)
    weights = Weights(own, 0.3)
    expected = torch.tensor([1.0, -2.0])
    for step, decay in enumerate([0.1, 2 / 11, 3 / 12, 0.3, 0.3]):
        move(own, 1.0)
        weights.follow(step)
        now = torch.tensor([1.0, -2.0]) + step + 1
        expected = decay * expected + (1 - decay) * now
        torch.testing.assert_close(torch.cat(list(weights.average.values())), expected)


def test_a_measurement_sees_the_average_and_leaves_the_parameters() -> None:
    own = parameters(1.0)
    weights = Weights(own, 0.5)
    move(own, 2.0)
    with weights.averaged():
        assert own["p0"].item() == 1.0
    assert own["p0"].item() == 3.0
    assert weights.average["p0"].item() == 1.0
    assert own["p0"].requires_grad


def test_a_measurement_that_fails_leaves_the_parameters_too() -> None:
    own = parameters(1.0)
    weights = Weights(own, 0.5)
    move(own, 2.0)
    with pytest.raises(ZeroDivisionError), weights.averaged():
        raise ZeroDivisionError
    assert own["p0"].item() == 3.0


def test_without_decay_the_average_is_the_parameters() -> None:
    own = parameters(1.0)
    weights = Weights(own, 0.0)
    move(own, 2.0)
    weights.follow(0)
    assert weights.average["p0"].data_ptr() == own["p0"].data_ptr()
    with weights.averaged():
        assert own["p0"].item() == 3.0
    assert own["p0"].item() == 3.0


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_a_snapshot_does_not_change_any_more(ema: float) -> None:
    own = parameters(1.0)
    weights = Weights(own, ema)
    kept = weights.snapshot()
    move(own, 2.0)
    weights.follow(5)
    assert kept["p0"].item() == 1.0
    assert weights.average["p0"].item() != 1.0


def test_every_name_of_the_target_is_filled() -> None:
    own = parameters(1.0, 2.0)
    copy_into(own, {"p0": torch.tensor([5.0]), "p1": torch.tensor([6.0]), "p2": torch.zeros(1)})
    assert [p.item() for p in own.values()] == [5.0, 6.0]
    with pytest.raises(KeyError):
        copy_into(own, {"p0": torch.zeros(1)})
