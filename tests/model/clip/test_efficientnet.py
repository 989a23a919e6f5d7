"""The hybrid's convolutions beside timm's, and what its stem makes of them."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.clip.efficientnet import (
    EfficientNetLite,
    EfficientNetStem,
    Standardisation,
    _Convolution,
    statistics,
)
from model.clip.towers import place
from training.pretrained_stem import folded

_PIXELS = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _timms() -> nn.Module:
    """timm's own network of that name, with weights and statistics at random."""
    import timm

    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif name.endswith("running_mean"):
                value.normal_(std=0.2)
    return network


def _names_of_the_package(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's weights under the names that the package of ImageNet's weights has."""
    plain = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
    widened = {"conv_pw": "_expand_conv", "conv_dw": "_depthwise_conv", "conv_pwl": "_project_conv"}
    widened |= {"bn1": "_bn0", "bn2": "_bn1", "bn3": "_bn2"}
    # The first stage widens nothing.
    narrow = {
        "conv_dw": "_depthwise_conv",
        "conv_pw": "_project_conv",
        "bn1": "_bn1",
        "bn2": "_bn2",
    }
    blocks: dict[str, int] = {}
    found = {}
    for name, value in weights.items():
        match name.split("."):
            case ["blocks", stage, place, part, kind]:
                block = blocks.setdefault(f"{stage}.{place}", len(blocks))
                own = narrow if stage == "0" else widened
                found[f"_blocks.{block}.{own[part]}.{kind}"] = value
            case ["classifier", kind]:
                found[f"_fc.{kind}"] = value
            case [part, kind]:
                found[f"{plain[part]}.{kind}"] = value
    return found


def test_it_computes_what_timms_network_computes_from_the_same_weights() -> None:
    theirs, ours = _timms(), EfficientNetLite()
    ours.load_state_dict(folded(_names_of_the_package(theirs.state_dict())))
    with torch.no_grad():
        logits = ours.classifier(ours(_PIXELS)[-1].mean((2, 3)))
        torch.testing.assert_close(logits, theirs(_PIXELS), rtol=1e-3, atol=1e-4)


def test_statistics_are_means_and_deviations_of_cells_and_of_the_whole() -> None:
    maps = EfficientNetLite()(_PIXELS)
    cells, view, seen = statistics(maps)
    first, last = maps[0], maps[-1]
    assert cells.shape[:2] == (2, 2 * 3)
    cell = first[0, :, 8:16, 16:24].flatten(1)  # of 32 pixels: row 1, column 2
    channels = first.shape[1]
    torch.testing.assert_close(cells[0, 5, :channels], cell.mean(1))
    deviation = cells[0, 5, channels : 2 * channels]
    torch.testing.assert_close(deviation, cell.std(1, correction=0), rtol=1e-2, atol=2e-3)
    torch.testing.assert_close(seen, last.mean((2, 3)))
    torch.testing.assert_close(view[:, :channels], first.mean((2, 3)))
    whole = first.flatten(2).std(2, correction=0)
    torch.testing.assert_close(view[:, channels : 2 * channels], whole, rtol=1e-2, atol=2e-3)


def test_a_standardisation_is_the_same_in_every_dtype() -> None:
    torch.manual_seed(0)
    features = torch.randn(500, 8) * torch.logspace(-1, 1, 8) + 3
    standard = Standardisation(8)
    standard.fit(features)
    found = standard(features)
    assert (found.mean(0).abs() < 0.2).all()
    assert ((found.std(0) > 0.6) & (found.std(0) < 1.5)).all()
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(standard.to(dtype)(features), found)


def test_a_view_starts_as_the_classes_that_it_shows() -> None:
    torch.manual_seed(0)
    stem, vectors, projection = EfficientNetStem(16), torch.randn(1000, 8), torch.randn(16, 8)
    stem.start_from(vectors, projection)
    tokens, classes = stem.see(_PIXELS)
    assert tokens.shape == (2, 7, 16)
    torch.testing.assert_close(classes.sum(1), torch.ones(2))
    expected = classes @ vectors
    torch.testing.assert_close(tokens[:, 0] @ projection, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [256, 224])
def test_a_stem_makes_a_token_of_each_cell(size: int) -> None:
    tokens = EfficientNetStem(8)(torch.zeros(1, 3, size, size))
    assert tokens.shape == (1, 1 + (size // 32) ** 2, 8)


def test_in_bfloat16_a_stem_stays_as_it_is_and_all_around_it_is_rounded() -> None:
    tower = nn.ModuleDict({"conv1": EfficientNetStem(8), "other": nn.Linear(3, 3)})
    tower["conv1"].fit([_PIXELS])
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    place(tower, torch.device("cpu"), torch.bfloat16)
    for name, value in tower.state_dict().items():
        if name.startswith("conv1."):
            assert torch.equal(value, before[name]), name
        else:
            assert value.dtype == torch.bfloat16, name


def _stem() -> EfficientNetStem:
    torch.manual_seed(0)
    stem = EfficientNetStem(24).eval()
    stem.fit([torch.rand(4, 3, 64, 96) * 2 - 1])
    return stem


def test_what_is_scored_equals_what_is_trained() -> None:
    stem, views = _stem(), torch.rand(7, 3, 64, 96) * 2 - 1
    with torch.no_grad():
        wanted, wanted_classes = stem.see(views)
    with torch.inference_mode():
        tokens, classes = stem.see(views)
    torch.testing.assert_close(tokens, wanted, atol=2e-4, rtol=2e-4)
    torch.testing.assert_close(classes, wanted_classes, atol=1e-5, rtol=1e-3)


def test_many_views_are_scored_a_few_at_a_time() -> None:
    stem = _stem()
    sizes: list[int] = []
    stem.convolutions.register_forward_pre_hook(lambda _, views: sizes.append(len(views[0])))
    with torch.inference_mode():
        stem(torch.rand(8, 3, 32, 32))
    assert sum(sizes) == 8
    assert max(sizes) <= 3


def test_no_views_give_no_tokens() -> None:
    with torch.inference_mode():
        assert _stem()(torch.rand(0, 3, 64, 64)).shape == (0, 5, 24)


@pytest.mark.parametrize("size", [16, 17], ids=["even", "odd"])
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_kernel_that_is_widened_by_zeros_computes_the_same(kernel: int, size: int) -> None:
    torch.manual_seed(0)
    convolution = _Convolution(8, 8, kernel, 2, depthwise=True)
    x = torch.rand(2, 8, size, size).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        wanted = F.relu6(convolution(x))
    with torch.inference_mode():
        found = convolution.clipped(x)
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, atol=1e-6)
    assert convolution.weight.shape[-1] == kernel
