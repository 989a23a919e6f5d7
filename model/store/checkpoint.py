"""Checkpoints on disk: a folder of ``config.json`` and ``model.safetensors``, read strictly and
written atomically.

    config.json             what it is (``model.config.CheckpointConfig``)
    model.safetensors       the learned parameters, and nothing else
    backbone.safetensors    the frozen CLIP, where the backbone's source is "checkpoint"
    README.md metrics.json  model card and measured figures

A bundled checkpoint lies in ``model/checkpoints/<name>``.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from model import hub
from model.clip.backbone import WEIGHTS, Shared, load_backbone, weights_path
from model.clip.weights import load_strictly
from model.config import CheckpointConfig
from model.errors import CheckpointError
from model.methods.network import Network
from model.methods.registry import METHODS, build_network
from model.store.files import write_atomically

BUNDLED = Path(__file__).parents[1] / "checkpoints"
CONFIG, PARAMETERS = "config.json", "model.safetensors"


def bundled_names() -> list[str]:
    """Names of the checkpoints that ship with the package."""
    return sorted(path.parent.name for path in BUNDLED.glob(f"*/{CONFIG}"))


def find(name_or_path: str | os.PathLike[str]) -> Path:
    """The folder of a bundled name, a path, or ``hf://owner/name`` (downloaded and cached).

    Raises:
        CheckpointError: neither exists, and the message lists the bundled names; or the hub can't
            be reached.
    """
    if str(name_or_path).startswith(hub.SCHEME):
        return hub.fetch(str(name_or_path))
    bundled = BUNDLED / str(name_or_path)
    for folder in (Path(name_or_path), bundled):
        if (folder / CONFIG).is_file():
            return folder
    names = ", ".join(bundled_names()) or "none"
    raise CheckpointError(
        f"no checkpoint {str(name_or_path)!r}: give a folder with a {CONFIG}, hf://owner/name, "
        f"or a bundled name ({names})"
    )


def read_config(folder: Path) -> CheckpointConfig:
    """Reads and validates ``config.json``.

    Raises:
        CheckpointError: unreadable, or not a configuration that this version knows.
    """
    try:
        return CheckpointConfig.model_validate_json((folder / CONFIG).read_text())
    except (OSError, ValueError) as error:  # pydantic's and Unicode's errors are ValueErrors
        raise CheckpointError(
            f"{folder / CONFIG} is not a valid checkpoint configuration: {error}"
        ) from error


def load_network(folder: Path, shared: Shared | None = None) -> tuple[CheckpointConfig, Network]:
    """The network of a checkpoint, on the CPU in float32, learned parameters loaded.

    Args:
        folder: the checkpoint's.
        shared: backbones that other checkpoints loaded already; see ``load_backbone``.

    Raises:
        CheckpointError: unknown method; a missing, extra or misshapen tensor (named); damaged
            files.
    """
    config = read_config(folder)
    if config.method not in METHODS:
        raise CheckpointError(
            f"{folder.name}: unknown method {config.method!r}; known: {', '.join(METHODS)}"
        )
    clip = load_backbone(config.backbone, folder, shared)
    try:
        network = build_network(config.method, clip, config.options)
    except ValueError as error:
        raise CheckpointError(
            f"{folder.name}: the options do not fit the method: {error}"
        ) from error
    if lacking := set(config.heads) - set(network.heads):
        raise CheckpointError(f"{folder.name}: with these options there is no {', '.join(lacking)}")
    try:
        weights = load_file(folder / PARAMETERS)
    except Exception as error:
        raise CheckpointError(f"{folder / PARAMETERS} is missing or damaged: {error}") from error
    load_strictly(network.stored(), weights)
    return config, network.eval()


def save_checkpoint(
    folder: Path,
    config: CheckpointConfig,
    network: Network,
    *,
    card: str,
    metrics: Mapping[str, object],
    backbone: nn.Module | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Writes a checkpoint; the configuration last, so that a folder with one is complete.

    Args:
        folder: made if need be; files of the same names are replaced.
        config: what ``config.json`` says.
        network: its ``stored()`` parameters are written in ``dtype``.
        card: the text of ``README.md``.
        metrics: the content of ``metrics.json``.
        backbone: stored too where given (source "checkpoint").
        dtype: 16 bit on disk by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if backbone is not None:
        write_weights(folder / WEIGHTS, backbone.state_dict(), dtype)
    write_weights(folder / PARAMETERS, network.stored(), dtype)
    write_atomically(folder / "README.md", card.encode())
    write_atomically(folder / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
    write_config(folder, config)


@contextmanager
def standalone(folder: Path) -> Iterator[Path]:
    """The checkpoint as a folder that needs nothing outside of it: a backbone that lies elsewhere
    as a file is put in, in a temporary copy.

    Raises:
        CheckpointError: no checkpoint there, or its backbone is missing.
    """
    config = read_config(folder)
    if config.backbone.source != "file":
        yield folder
        return
    with tempfile.TemporaryDirectory() as place:
        whole = Path(shutil.copytree(folder, Path(place) / folder.name))
        shutil.copyfile(weights_path(config.backbone, folder), whole / WEIGHTS)
        backbone = config.backbone.model_copy(update={"source": "checkpoint", "path": None})
        write_config(whole, config.model_copy(update={"backbone": backbone}))
        yield whole


def write_config(folder: Path, config: CheckpointConfig) -> None:
    """Writes ``config.json``."""
    text = config.model_dump_json(indent=2, exclude_none=True) + "\n"
    write_atomically(folder / CONFIG, text.encode())


def write_weights(path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Stores tensors as safetensors, floating point ones in ``dtype``."""
    stored = {
        name: value.detach().to("cpu", dtype if value.is_floating_point() else None).contiguous()
        for name, value in tensors.items()
    }
    write_atomically(path, save(stored))
