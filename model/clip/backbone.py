"""Backbones: an ``open_clip`` CLIP from a tag, a file, or a checkpoint's folder.

open_clip is imported only where it is needed: that takes seconds (see ``model.clip.own_clip``).
"""

import itertools
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from model import hub
from model.architecture import check_tower
from model.clip import efficientnet, own_clip
from model.clip.file_tokenizer import FileTokenizer
from model.clip.towers import is_open_clips
from model.clip.weights import is_openais, load_clip, read_weights, sha256_of
from model.clip.whole import keep_tokenizer
from model.config import CLIP_MEAN, CLIP_STD, Architecture, BackboneConfig, Normalisation
from model.errors import BackboneError, CheckpointError

WEIGHTS = "backbone.safetensors"

# open_clip's names of models that lie on the Hugging Face hub, and what it calls their files.
_HUB_NAMES = "hf-hub:"
_HUB_CONFIG = "open_clip_config.json"
_HUB_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

# So many numbers may be built for nothing, to say what was wanted.
_SMALL = 50_000_000

# What fills a tensor with random numbers, in the initialisation of torch's modules.
_DRAWS = {Tensor.normal_, Tensor.uniform_}

# Loaded CLIPs by what they are, so that several checkpoints can stand on one.
Shared = dict[str, nn.Module]


def _open_clip() -> ModuleType:
    import open_clip

    return open_clip


class ConvStem(nn.Sequential):
    """3x3 convolutions at stride 2 with batch norm instead of one big patch projection (Xiao et
    al., NeurIPS 2021).

    ``channels`` are the outputs of all but the last, which reaches the tower's width.
    [B, 3, h, w] -> [B, width, h / p, w / p], patch size p = 2^(len(channels) + 1).
    """

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise((3, *channels, width)):
            layers.append(nn.Conv2d(fan_in, fan_out, 3, stride=2, padding=1, bias=False))
            layers.append(nn.BatchNorm2d(fan_out))
            layers.append(nn.GELU())
        super().__init__(*layers[:-1])
        self.to(memory_format=torch.channels_last)  # faster on CPUs

    def forward(self, x: Tensor) -> Tensor:
        channels_last = x.contiguous(memory_format=torch.channels_last)
        return super().forward(channels_last)  # type: ignore[no-untyped-call]


def build(architecture: Architecture) -> nn.Module:
    """A CLIP of our own architecture with random weights.

    Raises:
        BackboneError: open_clip knows no such setting. Whether a method can use the towers, it
            says itself.
    """
    settings = architecture.model_dump(include={"embed_dim", "vision_cfg", "text_cfg"})
    quick = architecture.quick_gelu
    clip: Any
    try:
        if own_clip.can_be(architecture.vision_cfg, architecture.text_cfg) and not quick:
            clip = own_clip.OwnClip(**settings)
        else:
            clip = _open_clip().CLIP(**settings, quick_gelu=quick)
    except (TypeError, ValueError, AssertionError) as error:
        raise BackboneError(f"the backbone's architecture can't be built: {error}") from error
    if architecture.stem:
        named = isinstance(architecture.stem, str)
        patch = efficientnet.PATCH if named else 2 ** (len(architecture.stem) + 1)
        own = getattr(clip.visual, "patch_size", None)
        if own != (patch, patch):
            raise BackboneError(f"the stem makes patches of {patch}, not {own}")
        clip.visual.conv1 = _stem(architecture.stem, clip.visual.class_embedding.shape[0])
    if architecture.known_words:
        room = torch.zeros(architecture.known_words, dtype=torch.int32)
        clip.register_buffer("known_words", room)
    return clip


def _stem(stem: tuple[int, ...] | str, width: int) -> nn.Module:
    if isinstance(stem, str):
        return efficientnet.EfficientNetStem(width)
    return ConvStem(stem, width)


def load_backbone(
    config: BackboneConfig, folder: Path | None = None, shared: Shared | None = None
) -> nn.Module:
    """Loads the CLIP that ``config`` names, in float32 and evaluation mode, frozen.

    Args:
        config: where the weights are.
        folder: the checkpoint's folder, where ``source`` is ``checkpoint`` or ``path`` is relative.
        shared: CLIPs loaded before; one whose architecture and weights are the same is taken from
            there instead, and a new one is added.

    Raises:
        BackboneError: unknown architecture or tag, missing file, unfitting weights.
    """
    key = _identity(config, folder)
    if shared is not None and key in shared:
        return shared[key]
    clip = _load(config, folder).float().eval().requires_grad_(False)
    if config.tokenizer is not None:
        keep_tokenizer(clip, FileTokenizer.read(folder or Path(), config.tokenizer))
    if shared is not None:
        shared[key] = clip
    return clip


def _identity(config: BackboneConfig, folder: Path | None) -> str:
    """What two configurations have in common exactly if they mean the same network and weights."""
    if config.source == "open_clip":
        return f"{config.name} {config.pretrained} {config.tokenizer}"
    digest = checked_digest(config, weights_path(config, folder))
    return f"{config.name} {config.architecture} {digest} {config.tokenizer}"


def checked_digest(config: BackboneConfig, path: Path) -> str:
    """The SHA-256 of a backbone's file.

    Raises:
        BackboneError: the configuration states another.
    """
    digest = sha256_of(path)
    if config.sha256 and config.sha256 != digest:
        raise BackboneError(
            f"{path.name} is not the backbone that this checkpoint was trained on (its SHA-256 "
            f"differs from the configuration's): copy it again, whole"
        )
    return digest


def _load(config: BackboneConfig, folder: Path | None) -> nn.Module:
    if config.source == "open_clip":
        return _from_open_clip(config)
    path = weights_path(config, folder)
    weights = read_weights(path)
    _refuse_overgrown(config, path)
    clip = _empty(config)
    load_clip(clip, weights, path.name)
    quick = "transformer.QuickGELU"
    if is_openais(weights) and not any(is_open_clips(m, quick) for m in clip.modules()):
        raise _other_activation(path.name, config.name)
    return clip


def _refuse_overgrown(config: BackboneConfig, path: Path) -> None:
    """Before memory is taken for the architecture: a number has at least a byte in the file."""
    size = max(path.stat().st_size, _SMALL)
    if config.architecture and config.architecture.least_numbers() > size:
        raise BackboneError(
            f"the architecture has more numbers than {path.name} can hold: it is another "
            "backbone's, or the file is cut off"
        )


def _from_open_clip(config: BackboneConfig) -> nn.Module:
    """The CLIP of a tag, or of an id on the hub, from the file that open_clip would take.

    Found by us, since open_clip asks for each file again and again where there is no network, and
    goes on with random weights where a repository has none.
    """
    name, tag = config.name or "", config.pretrained
    if name.startswith(_HUB_NAMES):
        what, architecture = name, f"local-dir:{_hub_folder(name)}"
        weights = _on_hub(name.removeprefix(_HUB_NAMES), _HUB_WEIGHTS, what)
    else:
        _check_tag(name, tag)
        what, architecture = f"{name}/{tag}", name
        repository, _, file = _open_clip().get_pretrained_cfg(name, tag)["hf_hub"].rpartition("/")
        weights = _on_hub(repository, (file,) if file else _HUB_WEIGHTS, what)
    if config.sha256:
        checked_digest(config, weights)
    pretrained = None if name.startswith(_HUB_NAMES) else str(weights)
    try:
        return _open_clip().create_model(
            architecture, pretrained=pretrained, require_pretrained=True
        )
    except Exception as error:
        raise BackboneError(
            f"the weights {what} could not be read ({hub.brief(error)}): remove {weights.name} "
            "from the hub's cache, to have it downloaded again, or set the path of another file"
        ) from error


def text_settings(architecture: str) -> dict[str, Any]:
    """open_clip's settings of an architecture's text tower, by its name or ``hf-hub:owner/name``.

    Raises:
        BackboneError: there is no such architecture.
    """
    if architecture.startswith(_HUB_NAMES):
        settings = json.loads((_hub_folder(architecture) / _HUB_CONFIG).read_text())["model_cfg"]
    else:
        _check_name(architecture)
        settings = _open_clip().get_model_config(architecture)
    found: dict[str, Any] = settings.get("text_cfg", {})
    return found


def normalisation_of(config: BackboneConfig, clip: nn.Module) -> Normalisation:
    """Mean and deviation of the pixels that an open_clip model was trained with; CLIP's where
    nothing says others.
    """
    name = config.name or ""
    if name.startswith(_HUB_NAMES):
        visual: Any = clip.visual
        mean, std = visual.image_mean, visual.image_std
    else:
        tags = [config.pretrained] if config.pretrained else _tags(name)
        found = {_trained_with(name, tag) for tag in tags}
        mean, std = found.pop() if len(found) == 1 else (None, None)
    return Normalisation(mean=mean or CLIP_MEAN, std=std or CLIP_STD)


def _tags(name: str) -> list[str]:
    tags: list[str] = _open_clip().list_pretrained_tags_by_model(name)
    return tags


def _trained_with(name: str, tag: str) -> tuple[Any, Any]:
    known = _open_clip().get_pretrained_cfg(name, tag)
    mean, std = known.get("mean"), known.get("std")
    return mean and tuple(mean), std and tuple(std)


def _hub_folder(name: str) -> Path:
    """Where the hub's cache keeps the settings of ``hf-hub:owner/name``, which are a stranger's.

    Raises:
        BackboneError: they ask for more than a CLIP of reasonable size.
    """
    path = _on_hub(name.removeprefix(_HUB_NAMES), (_HUB_CONFIG,), name)
    try:
        settings = json.loads(path.read_text()).get("model_cfg", {})
        for tower in ("vision_cfg", "text_cfg"):
            check_tower(settings.get(tower, {}))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BackboneError(
            f"the weights {name} could not be read (its {_HUB_CONFIG}: {hub.brief(error)}): choose "
            "another model"
        ) from error
    return path.parent


def _on_hub(repository: str, names: Sequence[str], what: str) -> Path:
    """The first of the files that the repository has."""
    try:
        found = hub.download(repository, names, only_first=True)
        if not found:
            raise CheckpointError(f"{repository} has no {' or '.join(names)}")
    except CheckpointError as error:
        raise BackboneError(
            f"the weights {what} could not be downloaded ({error}): mount them as a file, set its "
            'path in a backbone of source "file", or use a bundled model (agiqa models lists them)'
        ) from error
    return found[0]


def _check_tag(name: str, tag: str | None) -> None:
    _check_name(name)
    tags = _tags(name)
    if tag not in tags:
        raise BackboneError(
            f"open_clip has no weights {tag!r} for {name}; it has {', '.join(tags)}"
        )
    quick = _open_clip().get_pretrained_cfg(name, tag).get("quick_gelu", False)
    if quick and not _open_clip().get_model_config(name).get("quick_gelu", False):
        raise _other_activation(f"{name}/{tag}", name)


def _other_activation(weights: str, name: str | None) -> BackboneError:
    wanted = f"name the architecture {name}-quickgelu" if name else "set its quick_gelu"
    return BackboneError(
        f"{weights} was trained with the activation QuickGELU; with this architecture's GELU it "
        f"would give other features: {wanted}"
    )


def random_open_clip(name: str, **settings: Any) -> nn.Module:
    """An open_clip architecture with random weights, to be filled.

    open_clip warns on the root logger that the weights are random; here that would only mislead.
    """

    def about_other_things(record: logging.LogRecord) -> bool:
        return "weights" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(about_other_things)
    try:
        return _open_clip().create_model(name, pretrained=None, **settings)
    finally:
        root.removeFilter(about_other_things)


def _check_name(name: str) -> None:
    if name not in _open_clip().list_models():
        raise BackboneError(
            f"open_clip knows no architecture {name!r}; `open_clip.list_models()` lists them"
        )
    if _open_clip().get_model_config(name).get("text_cfg", {}).get("hf_model_name"):
        raise BackboneError(
            f"the text tower of {name} is a network of the library transformers, which would be "
            "downloaded whenever it is loaded: choose another architecture"
        )


def _empty(config: BackboneConfig) -> nn.Module:
    """The architecture, whose numbers all come from a file: none is drawn where it is our own."""
    if config.architecture:
        with _Undrawn():
            return build(config.architecture)
    name = config.name or ""
    if name.startswith(_HUB_NAMES):
        return random_open_clip(f"local-dir:{_hub_folder(name)}", load_weights=False)
    _check_name(name)
    return random_open_clip(name)


class _Undrawn(TorchFunctionMode):
    """Within it, nothing is drawn or set by ``torch.nn.init``: tensors hold what their memory held.

    The device ``meta`` would do the same, but what torch imports for it takes a second.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if func in _DRAWS or getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def weights_path(config: BackboneConfig, folder: Path | None) -> Path:
    """The file that holds the weights of a backbone of source ``file`` or ``checkpoint``.

    Raises:
        BackboneError: it is not there.
    """
    path = (folder or Path()) / (
        config.path if config.source == "file" and config.path else WEIGHTS
    )
    if not path.is_file():
        raise BackboneError(f"backbone weights not found: {path}")
    return path
