import itertools

import pytest
import torch
from torch import nn

from training.engine.schedule import Schedule


def rates(**settings: object) -> list[float]:
    """Of a whole run with four steps an epoch."""
    schedule = Schedule.model_validate({"lr": 2.0, **settings})
    return [schedule.rate(step, 4) for step in range(4 * schedule.epochs)]


def test_the_rate_rises_evenly_to_its_full_height() -> None:
    lr = rates(epochs=3, warmup_epochs=1.5, decay="none")
    assert lr[:6] == pytest.approx([2 * (i + 1) / 6 for i in range(6)])
    assert lr[6:] == [2.0] * 6


def test_the_rate_falls_along_a_cosine_to_almost_nothing() -> None:
    lr = rates(epochs=5, warmup_epochs=1)
    assert lr[3] == lr[4] == 2.0
    assert lr[12] == pytest.approx(1.0)  # half-way
    assert all(a > b for a, b in itertools.pairwise(lr[4:]))
    assert 0 < lr[-1] < 0.02
    assert Schedule(epochs=5, lr=2.0).rate(20, 4) == pytest.approx(0.0)


def test_without_warm_up_and_decay_the_rate_stays() -> None:
    assert rates(epochs=3, warmup_epochs=0, decay="none") == [2.0] * 12


def test_a_warm_up_as_long_as_the_run_never_falls() -> None:
    lr = rates(epochs=2, warmup_epochs=2)
    assert lr == pytest.approx([2 * (i + 1) / 8 for i in range(8)])


def test_waves_are_the_rates_of_the_scheduler_that_liqe_s_script_steps() -> None:
    weight = nn.Parameter(torch.zeros(()))
    optimiser = torch.optim.AdamW([weight], lr=2.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=5)
    expected = []
    for _ in range(80):
        if optimiser.param_groups[0]["lr"] == 0:  # as the script does
            scheduler.step()
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    lr = rates(epochs=80, warmup_epochs=0, decay="waves", period=5)
    assert lr[::4] == lr[3::4]
    assert lr[::4] == pytest.approx(expected, abs=1e-12)
    assert min(lr) > 0.1


def test_a_cosine_of_a_longer_period_than_the_run_is_cut_off() -> None:
    whole = rates(epochs=15, warmup_epochs=0)
    assert rates(epochs=4, warmup_epochs=0, period=15) == whole[:16]


def test_what_does_not_add_up_is_refused() -> None:
    with pytest.raises(ValueError, match="quotas add up to 20, batch is 32: set it so"):
        Schedule(epochs=1, quotas={"LIVE": 4, "CSIQ": 16})
    with pytest.raises(ValueError, match="waves needs a period"):
        Schedule(epochs=1, decay="waves")


KINDS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}


@pytest.mark.parametrize("name", KINDS)
def test_every_optimiser_decays_matrices_alone(name: str) -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    schedule = Schedule.model_validate(
        {"epochs": 1, "lr": 0.1, "optimiser": name, "weight_decay": 0.3}
    )
    optimiser = schedule.optimiser_of(dict(network.named_parameters()))
    assert type(optimiser) is KINDS[name]
    matrices, others = optimiser.param_groups
    assert [p.shape for p in matrices["params"]] == [(2, 3)]
    assert [p.shape for p in others["params"]] == [(2,), (2,), (2,)]
    assert (matrices["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert matrices["lr"] == others["lr"] == 0.1


def test_without_matrices_there_is_one_group() -> None:
    scale = {"scale": nn.Parameter(torch.ones(()))}
    (group,) = Schedule(epochs=1).optimiser_of(scale).param_groups
    assert group["params"] == [scale["scale"]]
    assert group["weight_decay"] == 0


def test_names_learn_at_their_own_rate() -> None:
    network = nn.ModuleDict({"head": nn.Linear(2, 2), "body": nn.Linear(2, 2)})
    schedule = Schedule(epochs=1, lr=0.1, lr_scales={"head.weight": 3.0, "head": 2.0})
    optimiser = schedule.optimiser_of(dict(network.named_parameters()))
    names = {id(p): name for name, p in network.named_parameters()}
    rates = {names[id(p)]: g["lr"] for g in optimiser.param_groups for p in g["params"]}
    assert rates == pytest.approx(
        {"head.weight": 0.3, "head.bias": 0.2, "body.weight": 0.1, "body.bias": 0.1}
    )


def test_more_degraded_images_than_a_batch_has_are_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 4 has no 5 images to degrade"):
        Schedule(epochs=1, batch=4, degraded=5)


def test_kinds_of_degradations_are_known() -> None:
    with pytest.raises(ValueError, match="degraded_often knows no rain: blur, noise"):
        Schedule(epochs=1, degraded=1, degraded_often={"rain": 2})
