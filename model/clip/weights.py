"""Weight files: read safely from every real layout, described in words, and loaded strictly."""

import collections
import hashlib
import io
import pickle
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from model.errors import BackboneError, CheckpointError

# Entries of published state dicts that are not parameters of the network.
_NUMBERS = {"input_resolution", "context_length", "vocab_size"}
# Kinds of numbers that have a least and a largest.
_ORDERED = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_NOT_WEIGHTS = {"attn_mask", *_NUMBERS}
# Keys under which training scripts save a state dict.
_WRAPPERS = ("state_dict", "model_state_dict", "params")
# Prefixes of the tensors' names in such files: DataParallel's, and that of LIQE in pyiqa.
_PREFIXES = ("module.", "clip_model.")
_GIT_LFS = b"version https://git-lfs"
# What code and pickles of an archive may take unpacked.
_PACKED = 64 * 2**20
_WANTED = "a state dict as safetensors, as torch.save writes it, or in OpenAI's TorchScript archive"


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict in float32 from safetensors, a plain ``torch.save`` (LIQE's too), or OpenAI's
    TorchScript archive; told apart by their content, whatever the file is called.

    Nothing that the file holds is run: no pickle but of tensors, no TorchScript.

    Raises:
        BackboneError: none of these; says what was found.
    """
    try:
        weights = _read(path)
    except Exception as error:
        raise BackboneError(
            f"{path.name} holds no weights that can be read safely: found {_found(path, error)}, "
            f"wanted {_WANTED}"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(weights, Mapping) and isinstance(weights.get(wrapper), Mapping):
            weights = weights[wrapper]
    if not isinstance(weights, Mapping) or not all(isinstance(key, str) for key in weights):
        raise BackboneError(f"{path.name} holds no state dict, names with tensors")
    tensors = {_bare(name): v for name, v in weights.items() if isinstance(v, Tensor)}
    if not tensors:
        raise BackboneError(f"{path.name} holds no state dict: there is no tensor in it")
    _refuse_stretched(path, tensors.values())
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def _bare(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _read(path: Path) -> Any:
    if _is_safetensors(_head(path)):
        return load_file(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            _refuse_bombs(path, archive)
            if root := _torchscript_root(archive):
                return _ScriptReader(archive, root).weights()
    # By its path, torch would go by the name's ending. Of pickle protocols that it may not know it
    # warns; what it does not know it refuses anyway.
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.load(file, map_location="cpu", weights_only=True)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(80)


def _is_safetensors(head: bytes) -> bool:
    """Eight bytes of length, then JSON."""
    return head[8:9] == b"{"


def _found(path: Path, error: Exception) -> str:
    """What lies in a file that could not be read, in a few words."""
    if isinstance(error, OSError):
        return f"a file that can't be opened ({error.strerror or error})"
    head = _head(path)
    if not head:
        return "an empty file"
    if _is_safetensors(head):
        return "a safetensors file that is cut off or damaged"
    if head.startswith((b"PK", b"\x80")):  # a zip archive as torch writes it, a pickle as it did
        if isinstance(error, pickle.UnpicklingError):
            return "a pickle of more than tensors, not opened because it could run anything"
        return "a torch file that is cut off or damaged"
    # Nothing of the content: it may be a file that its owner would not show.
    if head.startswith(_GIT_LFS):
        return "a pointer of Git LFS instead of the file (`git lfs pull` brings it)"
    if head.isascii() and all(
        line.isprintable() for line in head.decode().expandtabs().split("\n")
    ):
        return "a text file"
    return "bytes of no layout that is known"


def _refuse_bombs(path: Path, archive: zipfile.ZipFile) -> None:
    """Tensors lie in archives as they are; only their code and pickles are packed.

    Raises:
        ValueError: unpacked it is much larger than it claims to be.
    """
    if sum(member.file_size for member in archive.infolist()) > path.stat().st_size + _PACKED:
        raise ValueError("its members are larger than the file")


def _refuse_stretched(path: Path, tensors: Iterable[Tensor]) -> None:
    """A tensor may be a view of fewer numbers than it shows (a stride of 0).

    Raises:
        BackboneError: they would take more memory than the file has bytes to fill.
    """
    if sum(tensor.numel() for tensor in tensors) > path.stat().st_size:
        raise BackboneError(f"{path.name} claims more numbers than it holds; get it again")


def _torchscript_root(archive: zipfile.ZipFile) -> str | None:
    """The folder inside a TorchScript archive; None for a file of ``torch.save``."""
    ends = "/constants.pkl"
    found = [name for name in archive.namelist() if name.endswith(ends)]
    return found[0].removesuffix(ends) if found else None


class _ScriptModule:
    """What stands for every class of a TorchScript archive: attributes and no code."""


def _view(
    storage: Tensor, offset: int, size: Sequence[int], stride: Sequence[int], *_: object
) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _first(value: Any, *_: object) -> Any:
    return value


# The names outside of the archive that its tensors need.
_SCRIPT_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _view,
    ("torch", "HalfStorage"): torch.float16,
    ("torch", "BFloat16Storage"): torch.bfloat16,
    ("torch", "FloatStorage"): torch.float32,
    ("torch", "DoubleStorage"): torch.float64,
    ("torch", "IntStorage"): torch.int32,
    ("torch", "LongStorage"): torch.int64,
    ("torch", "BoolStorage"): torch.bool,
}


class _ScriptReader(pickle.Unpickler):
    """Takes the tensors out of a TorchScript archive and leaves its code alone.

    ``torch.jit.load`` would run the ``__setstate__`` of the archive's classes, which may write
    files. Here each class of the archive is an empty one of ours, whose attributes are kept.
    """

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}/data.pkl")))
        self._archive = archive
        self._root = root

    def weights(self) -> dict[str, Tensor]:
        """Every tensor by its path through the modules."""
        return dict(self._walk(self.load(), ()))

    def find_class(self, module: str, name: str) -> Any:
        """Modules of the archive, and the few names that tensors need."""
        if module.partition(".")[0] == "__torch__":
            return _ScriptModule
        if module == "torch.jit._pickle":  # lists with the type of their items
            return _first
        if (module, name) in _SCRIPT_NAMES:
            return _SCRIPT_NAMES[module, name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, saved: Any) -> Tensor:
        """The storage ("storage", type, file, device, length) as one row of numbers."""
        _, dtype, name, *_ = saved
        data = bytearray(self._archive.read(f"{self._root}/data/{name}"))
        return torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)

    def _walk(self, module: object, path: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                yield ".".join((*path, name)), value
            elif isinstance(value, _ScriptModule):
                yield from self._walk(value, (*path, name))


def is_openais(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are weights that OpenAI published: they alone keep numbers among them."""
    return weights.keys() >= _NUMBERS


def load_strictly(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Copies ``weights`` into a network's ``own`` tensors; every one must be there, no other, each
    of its shape.

    Raises:
        CheckpointError: names the first missing, unknown or misshapen tensor, or one with values
            that are no numbers.
    """
    if fault := _first_fault(own, weights):
        raise CheckpointError(fault)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])


def load_clip(clip: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Loads all weights of a CLIP, strictly, from a file called ``what``.

    Raises:
        BackboneError: says what was found and what was wanted, and names the first unfitting
            tensor.
    """
    own = clip.state_dict()
    weights = {k: v for k, v in weights.items() if k.rpartition(".")[2] not in _NOT_WEIGHTS}
    try:
        load_strictly(own, weights)
    except CheckpointError as fault:
        found, wanted = describe(weights), describe(own)
        raise BackboneError(f"{what} holds {found}, wanted {wanted}: {fault}") from fault


def _first_fault(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str | None:
    for name in own:
        if name not in weights:
            return f"the tensor {name} {list(own[name].shape)} is missing"
    for name, value in weights.items():
        if name not in own:
            return f"the tensor {_shown(name)} {list(value.shape)} belongs to another network"
        if value.shape != own[name].shape:
            return f"the tensor {name} is {list(value.shape)}, wanted {list(own[name].shape)}"
        if not _all_finite(value):
            return f"the tensor {name} holds values that are no numbers: get the file again"
    return None


def _all_finite(values: Tensor) -> bool:
    # The least and the largest are enough, NaN is both, and finding them is six times as fast as
    # asking each; but not every kind of number knows them.
    if values.dtype in _ORDERED and values.numel():
        return all(bool(end.isfinite()) for end in torch.aminmax(values))
    return bool(values.isfinite().all())


def _shown(name: str) -> str:
    """A file's own words, fit for a message."""
    short = name if len(name) <= 80 else f"{name[:77]}..."
    return short if short.isprintable() else ascii(short)


def describe(weights: Mapping[str, Tensor]) -> str:
    """What kind of network a state dict belongs to, in a few words, from names and shapes."""
    parts = [part for part in (_image_part(weights), _text_part(weights)) if part]
    if parts:
        return "a CLIP with " + " and ".join(parts)
    if any(name.startswith(("vision_model.", "text_model.")) for name in weights):
        return "a CLIP of the transformers library (convert it to open_clip's layout)"
    if not weights:
        return "no tensors"
    return f"{len(weights)} tensors of no CLIP ({', '.join(map(_shown, list(weights)[:3]))} ...)"


def _image_part(weights: Mapping[str, Tensor]) -> str | None:
    if "visual.class_embedding" in weights:
        width = len(weights["visual.class_embedding"])
        layers = _count(weights, "visual.transformer.resblocks.")
        patch = weights.get("visual.conv1.weight")
        size = f", patch {patch.shape[-1]}" if patch is not None else ""
        return f"a ViT image tower ({layers} layers of width {width}{size})"
    if "visual.layer1.0.conv1.weight" in weights:
        blocks = [_count(weights, f"visual.layer{stage}.") for stage in range(1, 5)]
        return f"a ResNet image tower (blocks {blocks})"
    if any(name.startswith("visual.trunk.") for name in weights):
        return "an image tower of the timm library"
    return None


def _text_part(weights: Mapping[str, Tensor]) -> str | None:
    for prefix in ("", "text."):
        table = weights.get(f"{prefix}token_embedding.weight")
        if table is not None:
            layers = _count(weights, f"{prefix}transformer.resblocks.")
            return f"a text tower ({layers} layers of width {table.shape[1]})"
    return None


def _count(weights: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered modules stand behind the prefix."""
    return len({n.removeprefix(prefix).split(".")[0] for n in weights if n.startswith(prefix)})
