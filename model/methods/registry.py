"""The methods by name. A new one is a file of its own and a line here."""

import importlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from model.methods.network import Network

METHODS: Mapping[str, str] = {
    "clip-agiqa": "model.methods.clip_agiqa:ClipAgiqa",
    "clip-iqa": "model.methods.clip_iqa:ClipIqa",
    "clip-iqa-plus": "model.methods.clip_iqa_plus:ClipIqaPlus",
    "clipscore": "model.methods.clipscore:ClipScore",
    "liqe": "model.methods.liqe:Liqe",
    "mp-iqe": "model.methods.mp_iqe:MpIqe",
}


def network_type(method: str) -> type[Network]:
    """The network class of a method; the others are not imported.

    Raises:
        KeyError: no such method.
    """
    module, _, name = METHODS[method].partition(":")
    found: type[Network] = getattr(importlib.import_module(module), name)
    return found


def build_network(method: str, clip: nn.Module, options: Mapping[str, Any]) -> Network:
    """The method's network around a CLIP, with random learnable parameters.

    Raises:
        KeyError: no such method.
        ValueError: options that the method does not have.
        BackboneError: a CLIP that the method can't use.
    """
    network = network_type(method)
    made: Network = network(clip, network.options_type.model_validate(options))  # type: ignore[arg-type]
    made.freeze_undeclared()
    return made
