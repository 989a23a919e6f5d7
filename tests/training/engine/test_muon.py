"""Muon: orthogonal steps for matrices and convolutions, AdamW for the rest."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.methods.registry import build_network
from tests.model import tiny
from training.engine.muon import Muon, orthogonal
from training.engine.schedule import Schedule
from training.methods.base import LossWeights, objective_type
from training.methods.pretrain import Pretraining, PretrainWeights


@pytest.mark.parametrize("shape", [(24, 24), (16, 40), (40, 16)])
def test_orthogonal_makes_all_singular_values_about_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    after = torch.linalg.svdvals(orthogonal(u @ torch.diag(torch.logspace(-1, 1, len(v))) @ v))
    assert after.min() > 0.4
    assert after.max() < 1.3


def test_orthogonal_keeps_the_directions() -> None:
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(12, 20), full_matrices=False)
    matrix = u @ torch.diag(torch.linspace(0.5, 1.5, 12)) @ v
    agreement = (u.T @ orthogonal(matrix) @ v.T).diagonal()
    assert agreement.min() > 0.6


def network() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "layer": nn.Linear(6, 6),
            "convolution": nn.Conv2d(4, 4, 3),
            "embedding": nn.Embedding(5, 6),
        }
    )


def optimiser_of(module: nn.ModuleDict, **settings: Any) -> torch.optim.Optimizer:
    """Muon for the layer and the convolution."""
    schedule = Schedule(epochs=1, optimiser="muon", **settings)
    hidden: list[Any] = [module["layer"].weight, module["convolution"].weight]
    return schedule.optimiser_of(dict(module.named_parameters()), hidden)


def groups_of(optimiser: torch.optim.Optimizer, module: nn.Module) -> dict[str, str]:
    names = {id(p): name for name, p in module.named_parameters()}
    return {
        names[id(p)]: "muon" if group.get("orthogonal") else f"adamw {group['weight_decay']:g}"
        for group in optimiser.param_groups
        for p in group["params"]
    }


def test_what_is_declared_as_hidden_takes_orthogonal_steps() -> None:
    module = network()
    assert groups_of(optimiser_of(module, weight_decay=0.1), module) == {
        "layer.weight": "muon",
        "layer.bias": "adamw 0",
        "convolution.weight": "muon",
        "convolution.bias": "adamw 0",
        "embedding.weight": "adamw 0.1",
    }


def test_the_hidden_maps_of_a_clip_are_its_layers_matrices_and_its_stem_past_the_colours() -> None:
    clip = tiny.random_clip()
    names = {id(p): name for name, p in clip.named_parameters()}
    found = Pretraining(clip, [], PretrainWeights()).hidden_maps()
    inside = ("attn.in_proj_weight", "attn.out_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
    layers = {
        f"{tower}transformer.resblocks.{layer}.{name}"
        for tower in ("visual.", "")
        for layer in range(2)
        for name in inside
    }
    stem = {f"visual.conv1.{place}.weight" for place in (3, 6, 9, 12)}  # 0 sees colours
    assert {names[id(p)] for p in found} == layers | stem
    liqe = objective_type("liqe")(build_network("liqe", clip, {}), LossWeights(), whole=False)
    assert {id(p) for p in liqe.hidden_maps()} == {id(p) for p in found}


def test_steps_are_as_long_as_adamws() -> None:
    weight = nn.Parameter(torch.zeros(30, 50))
    optimiser = Muon([{"params": [weight], "orthogonal": True, "weight_decay": 0.0}], lr=0.01)
    weight.grad = torch.randn(30, 50) * 1e-6  # the size of the gradient tells nothing
    optimiser.step()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.2 * 0.01, rel=0.25)


def test_groups_without_the_mark_are_adamws() -> None:
    def stepped(kind: type[torch.optim.Optimizer]) -> Tensor:
        torch.manual_seed(1)
        weight = nn.Parameter(torch.randn(4, 4))
        optimiser = kind([{"params": [weight], "weight_decay": 0.1}], lr=0.01)  # type: ignore[call-arg]
        for _ in range(3):
            weight.grad = weight.detach() ** 2
            optimiser.step()
        return weight.detach()

    torch.testing.assert_close(stepped(Muon), stepped(torch.optim.AdamW))


def test_a_restored_optimiser_goes_on_bit_by_bit() -> None:
    def trained(
        steps: int, state: dict[str, object] | None, values: list[Tensor]
    ) -> tuple[Any, ...]:
        module = network()
        for p, value in zip(module.parameters(), values, strict=False):
            p.data.copy_(value)
        optimiser = optimiser_of(module)
        if state is not None:
            optimiser.load_state_dict(state)
        for _ in range(steps):
            for p in module.parameters():
                p.grad = p.detach().sin()
            optimiser.step()
        return optimiser.state_dict(), [p.detach().clone() for p in module.parameters()]

    _, straight = trained(4, None, [])
    state, half = trained(2, None, [])
    _, resumed = trained(2, state, half)
    assert all(torch.equal(a, b) for a, b in zip(straight, resumed, strict=True))
