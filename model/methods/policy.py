"""Which crop policy a scorer uses: the checkpoint's own or a named one, and whether the network can
take its crops.
"""

from collections.abc import Callable, Mapping

from model.config import CheckpointConfig, CropPolicy
from model.methods.network import Network

# Larger images are reduced before a ResNet sees them whole: its memory grows with their area.
_WHOLE_SIDE = 2048

_BY_NAME: Mapping[str, Callable[[int], CropPolicy]] = {
    "grid": lambda size: CropPolicy(size=size),
    "official": CropPolicy.official,
    "liqe": CropPolicy.liqe,
    "random": CropPolicy.random,
    "whole": lambda size: CropPolicy.whole(size, max_side=_WHOLE_SIDE),
}


def choose_policy(config: CheckpointConfig, policy: CropPolicy | str | None) -> CropPolicy:
    """The checkpoint's own crop policy, or the one asked for; by name, with the checkpoint's own
    settings of that kind where it has any.

    Raises:
        ValueError: an unknown name.
    """
    if policy is None or isinstance(policy, CropPolicy):
        return policy or config.crop_policy
    for own in (config.crop_policy, config.measured_policy):
        if own is not None and policy == own.kind:
            return own
    if policy not in _BY_NAME:
        raise ValueError(f"crop policy {policy!r}: choose {', '.join(_BY_NAME)}")
    return _BY_NAME[policy](config.crop_policy.size)


def serving_policy(measured: CropPolicy) -> CropPolicy:
    """What serves a model that was measured so, unless somebody chose another: the grid in place of
    windows without a ceiling, or at random; a ceiling on whole images that have none.
    """
    if measured.kind in {"official", "random"}:
        return CropPolicy(size=measured.size, global_view=measured.global_view)
    if measured.kind == "whole" and measured.max_side is None:
        return measured.model_copy(update={"max_side": _WHOLE_SIDE})
    return measured


def check_policy(name: str, policy: CropPolicy, network: Network) -> None:
    """Refuses crops that the network can't take.

    Raises:
        ValueError: crops of another size, or whole images for a ViT.
    """
    if policy.size != network.input_size:
        sizes = f"{policy.size}, the backbone takes {network.input_size}"
        raise ValueError(f"{name}: the crop policy's size is {sizes}")
    if policy.kind == "whole" and not network.takes_any_size:
        raise ValueError(f"{name}: whole images need a ResNet; a ViT takes crops, so choose grid")
