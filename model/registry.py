"""The methods by name. A new one is a file of its own and a line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from model.clip_agiqa import ClipAgiqa
from model.config import ClipAgiqaOptions
from model.network import Network


@dataclass(frozen=True)
class Method:
    """How to build a method's network from a frozen CLIP and the checkpoint's options."""

    network: Callable[[nn.Module, Mapping[str, Any]], Network]


METHODS: dict[str, Method] = {
    "clip-agiqa": Method(
        lambda clip, options: ClipAgiqa(clip, ClipAgiqaOptions.model_validate(options))
    ),
}
