"""Muon: orthogonal steps for matrices and convolutions, AdamW for the rest."""

import pytest
import torch
from torch import Tensor, nn

from training.engine.muon import Muon, orthogonal
from training.engine.schedule import Schedule


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


def network() -> nn.Module:
    """Names and shapes as a CLIP has them."""
    torch.manual_seed(0)
    layer = nn.Linear(6, 6)
    return nn.ModuleDict(
        {
            "resblocks": nn.ModuleList([layer]),
            "first": nn.Conv2d(3, 4, 3),
            "second": nn.Conv2d(4, 4, 3),
            "embedding": nn.Embedding(5, 6),
        }
    )


def groups_of(optimiser: torch.optim.Optimizer, module: nn.Module) -> dict[str, str]:
    names = {id(p): name for name, p in module.named_parameters()}
    return {
        names[id(p)]: "muon" if group.get("orthogonal") else f"adamw {group['weight_decay']:g}"
        for group in optimiser.param_groups
        for p in group["params"]
    }


def test_inner_maps_alone_take_orthogonal_steps() -> None:
    module = network()
    schedule = Schedule(epochs=1, optimiser="muon", weight_decay=0.1)
    assert groups_of(schedule.optimiser_of(dict(module.named_parameters())), module) == {
        "resblocks.0.weight": "muon",
        "resblocks.0.bias": "adamw 0",
        "first.weight": "adamw 0.1",
        "first.bias": "adamw 0",
        "second.weight": "muon",
        "second.bias": "adamw 0",
        "embedding.weight": "adamw 0.1",
    }


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
    def trained(steps: int, state: dict[str, object] | None, values: list[Tensor]) -> tuple:
        module = network()
        for p, value in zip(module.parameters(), values, strict=False):
            p.data.copy_(value)
        optimiser = Schedule(epochs=1, optimiser="muon").optimiser_of(
            dict(module.named_parameters())
        )
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
