"""Layers that oneDNN runs in fewer passes compute what torch's operators compute."""

import copy
import platform
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from model.clip import one_pass
from model.clip.backbone import build
from model.clip.towers import TextTower, VisionTower
from model.config import Architecture

_X86 = platform.machine().lower() in {"x86_64", "amd64"}
pytestmark = pytest.mark.skipif(
    not (_X86 and torch.backends.mkldnn.is_available()), reason="oneDNN's operators are for x86"
)


def _clip(*, quick_gelu: bool) -> Any:
    torch.manual_seed(0)
    architecture = Architecture(
        embed_dim=16,
        vision_cfg={"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "head_width": 16},
        text_cfg={"width": 16, "layers": 3, "heads": 2},
        quick_gelu=quick_gelu,
    )
    clip = build(architecture).eval()
    with torch.no_grad():  # initial norms and biases are ones and zeros, which hide mistakes
        for parameter in clip.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return clip


def _images(tower: VisionTower) -> Tensor:
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return tower.encode(tower.patchify(pixels), torch.full((1, 3, 2, 32), 0.2))


@pytest.mark.parametrize("quick_gelu", [False, True], ids=["gelu", "quick-gelu"])
def test_image_features_are_the_same_in_fewer_passes(quick_gelu: bool) -> None:
    tower = VisionTower(_clip(quick_gelu=quick_gelu).visual)
    with torch.no_grad():
        expected = _images(tower)
    with torch.inference_mode():
        assert one_pass.fuses_layer(tower.visual.transformer.resblocks[0], torch.zeros(1, 1, 32))
        torch.testing.assert_close(_images(tower), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("quick_gelu", [False, True], ids=["gelu", "quick-gelu"])
def test_text_features_are_the_same_in_fewer_passes(quick_gelu: bool) -> None:
    tower = TextTower(_clip(quick_gelu=quick_gelu))
    ids, ends = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]]), torch.tensor([3, 2])
    with torch.no_grad():
        expected = tower.encode(tower.embed(ids), ends)
    with torch.inference_mode():
        found = tower.encode(tower.embed(ids), ends)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_scoring_leaves_the_weights_as_they_are_and_sees_new_ones() -> None:
    tower = VisionTower(_clip(quick_gelu=True).visual)
    before = copy.deepcopy(tower.state_dict())
    with torch.inference_mode():
        first = _images(tower)
    after = tower.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    with torch.no_grad():
        tower.visual.transformer.resblocks[1].ln_2.weight.mul_(2)
        expected = _images(tower)
    with torch.inference_mode():
        assert not torch.allclose(_images(tower), first)
        torch.testing.assert_close(_images(tower), expected, rtol=1e-4, atol=1e-5)


def test_only_layers_of_known_parts_are_fused() -> None:
    block = _clip(quick_gelu=True).visual.transformer.resblocks[0]
    x = torch.zeros(1, 1, 32)
    assert not one_pass.fuses_layer(block, x), "a gradient may be wanted"
    with torch.inference_mode():
        assert one_pass.fuses_layer(block, x)
        assert not one_pass.fuses_layer(block, x.double())
        with torch.autocast("cpu"):
            assert not one_pass.fuses_layer(block, x)
        scaled = copy.deepcopy(block)
        scaled.ls_1 = nn.Linear(32, 32)
        assert not one_pass.fuses_layer(scaled, x)
        other = copy.deepcopy(block)
        other.mlp[1] = nn.ReLU()
        assert not one_pass.fuses_layer(other, x)


def _gradients(clip: Any, *, frozen: bool, autocast: bool) -> tuple[Tensor, Tensor]:
    """Features, and what prompts get from them, of layers that learn or are frozen."""
    tower = VisionTower(clip.visual.requires_grad_(not frozen))
    prompts = torch.full((1, 3, 2, 32), 0.2, requires_grad=True)
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    tokens = tower.patchify(pixels).detach()
    block = tower.visual.transformer.resblocks[0]
    with torch.autocast("cpu", enabled=autocast):
        assert one_pass.fuses_layer(block, tokens) is frozen
        features = tower.encode(tokens, prompts)
    features.float().square().sum().backward()
    assert prompts.grad is not None
    return features.detach().float(), prompts.grad


@pytest.mark.parametrize("quick_gelu", [False, True], ids=["gelu", "quick-gelu"])
def test_prompts_of_frozen_layers_get_the_gradients_that_torch_computes(quick_gelu: bool) -> None:
    clip = _clip(quick_gelu=quick_gelu)
    expected = _gradients(clip, frozen=False, autocast=False)
    found = _gradients(clip, frozen=True, autocast=False)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bfloat16"
)
def test_frozen_layers_run_in_bfloat16_under_autocast() -> None:
    clip = _clip(quick_gelu=True)
    expected = _gradients(clip, frozen=False, autocast=True)
    found = _gradients(clip, frozen=True, autocast=True)
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).norm() / other.norm()) < 0.03


def test_who_counts_operations_sees_torchs_own() -> None:
    clip = _clip(quick_gelu=True)
    tower = VisionTower(clip.visual)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        _images(tower)
    with torch.no_grad(), FlopCounterMode(display=False) as own:
        _images(tower)
    assert counter.get_total_flops() == own.get_total_flops() > 0
