"""Checkpoints on disk: a folder of ``config.json`` and ``model.safetensors``, read strictly and
written atomically.

    config.json             what it is (``model.config.CheckpointConfig``)
    model.safetensors       the learned parameters, and nothing else
    backbone.safetensors    the frozen CLIP, where the backbone's source is "checkpoint"
    tokenizer.json          the backbone's, where it is not CLIP's own
    README.md metrics.json  model card and measured figures

Sealed (``model.seal``), ``config.json`` holds the digests of the tensor files and the scores
that they must give. A checkpoint may be a stranger's: nothing of it is run, and no file outside of
its folder is read but one whose digest it knows.

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
from pydantic import ValidationError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from model import hub
from model.clip.backbone import WEIGHTS, Shared, checked_digest, load_backbone, weights_path
from model.clip.weights import load_strictly, sha256_of
from model.config import CheckpointConfig
from model.errors import CheckpointError
from model.hub import FILES
from model.methods.network import Network
from model.methods.registry import METHODS, build_network
from model.store.files import write_atomically

BUNDLED = Path(__file__).parents[1] / "checkpoints"
CONFIG, PARAMETERS = "config.json", "model.safetensors"
# Digests of the groups that it learned from are most of it, a few kB per data set.
_MOST_CONFIG = 16 * 2**20


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
        if (size := (folder / CONFIG).stat().st_size) > _MOST_CONFIG:
            raise ValueError(f"it has {size} bytes")
        return CheckpointConfig.model_validate_json((folder / CONFIG).read_text())
    except (OSError, ValueError) as error:  # pydantic's and Unicode's errors are ValueErrors
        raise CheckpointError(
            f"{folder / CONFIG} is not a valid checkpoint configuration: {_faults(error)}"
        ) from error


def _faults(error: Exception) -> str:
    """What is wrong where, without what stands there: it may be a file that is not for show."""
    if isinstance(error, UnicodeError):
        return "it is no text in UTF-8"
    if not isinstance(error, ValidationError):
        return str(error)
    faults = error.errors(include_input=False, include_url=False)
    places = (".".join(map(str, fault["loc"])) for fault in faults)
    return "; ".join(
        ": ".join(filter(None, (place, fault["msg"])))
        for place, fault in zip(places, faults[:3], strict=False)
    )


def load_network(
    folder: Path, shared: Shared | None = None, *, config: CheckpointConfig | None = None
) -> tuple[CheckpointConfig, Network]:
    """The network of a checkpoint, on the CPU in float32, learned parameters loaded; and its
    configuration with the digests of what was loaded.

    Args:
        folder: the checkpoint's.
        shared: backbones that other checkpoints loaded already; see ``load_backbone``.
        config: instead of what its ``config.json`` says.

    Raises:
        CheckpointError: unknown method; a missing, extra or misshapen tensor (named); damaged
            files, or others than those that it was sealed with.
    """
    config = config or read_config(folder)
    check_files(config, folder)
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
    return with_digests(config, folder), network.eval()


def check_files(config: CheckpointConfig, folder: Path) -> None:
    """Whether the checkpoint's tensor files are those that it was sealed with, and its own.

    Raises:
        CheckpointError: one is missing, differs, or lies elsewhere and nothing says which it is.
    """
    if not (folder / PARAMETERS).is_file():
        raise CheckpointError(f"{folder / PARAMETERS} is missing or damaged: no such file")
    if config.sha256 is not None and sha256_of(folder / PARAMETERS) != config.sha256:
        raise CheckpointError(
            f"{folder / PARAMETERS} is not the file that this checkpoint was sealed with (its "
            f"SHA-256 differs from the one in {CONFIG}): copy it again, whole; if it was changed "
            f"on purpose, seal the checkpoint anew: agiqa seal DIR"
        )
    backbone = config.backbone
    if backbone.source == "open_clip" or backbone.sha256 is not None:
        return  # compared where it is read
    if not is_inside(folder, weights_path(backbone, folder)):
        raise CheckpointError(
            f"{folder.name}: its backbone lies outside of its folder, and {CONFIG} does not say "
            "by a SHA-256 which file it is: copy the file into the folder, or, if you trust the "
            "checkpoint, seal it: agiqa seal DIR"
        )


def is_inside(folder: Path, path: Path) -> bool:
    """Whether a file lies in a checkpoint's folder, links followed. The hub's cache keeps what its
    folders link to two levels up, beside all revisions of the repository.
    """
    place = folder.resolve()
    if place.parent.name == "snapshots":
        place = place.parents[1]
    return path.resolve().is_relative_to(place)


def with_digests(config: CheckpointConfig, folder: Path) -> CheckpointConfig:
    """The configuration with the digests of the tensor files, where it does not have them yet."""
    backbone = config.backbone
    if backbone.source != "open_clip" and backbone.sha256 is None:
        digest = sha256_of(weights_path(backbone, folder))
        backbone = backbone.model_copy(update={"sha256": digest})
    own = config.sha256 or sha256_of(folder / PARAMETERS)
    return config.model_copy(update={"sha256": own, "backbone": backbone})


def without_digests(config: CheckpointConfig) -> CheckpointConfig:
    """The configuration of files that may be others now."""
    backbone = config.backbone
    if backbone.source != "open_clip":
        backbone = backbone.model_copy(update={"sha256": None})
    return config.model_copy(update={"sha256": None, "backbone": backbone, "self_test": None})


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
    """Writes a checkpoint; the configuration last, with the files' digests, so that a folder with
    one is complete. ``model.seal`` adds the self-test.

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
    write_config(folder, with_digests(without_digests(config), folder))


@contextmanager
def standalone(folder: Path) -> Iterator[Path]:
    """The checkpoint as a folder that needs nothing outside of it: a backbone that lies elsewhere
    as a file is put in, in a temporary copy. No file of anyone else's gets into it.

    Raises:
        CheckpointError: no checkpoint there, its files are not those that it was sealed with, or
            one of them is a link to somewhere else.
    """
    config = read_config(folder)
    check_files(config, folder)
    backbone = config.backbone
    if backbone.source != "open_clip":
        checked_digest(backbone, weights_path(backbone, folder))
    own = [path for path in folder.iterdir() if path.is_file()]
    for path in own:
        if path.name in FILES and not is_inside(folder, path):
            raise CheckpointError(f"{path} is a link out of its folder: put the file itself there")
    if backbone.source != "file":
        yield folder
        return
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place) / folder.resolve().name
        whole.mkdir()
        for path in own:
            if is_inside(folder, path):
                shutil.copyfile(path, whole / path.name)
        shutil.copyfile(weights_path(backbone, folder), whole / WEIGHTS)
        backbone = backbone.model_copy(update={"source": "checkpoint", "path": None})
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
