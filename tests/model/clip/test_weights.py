"""Weight files: what is read from which layout, what is refused in which words, and what never
runs.
"""

import copy
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import convert_weights_to_lp
from safetensors.torch import save_file
from torch import Tensor, nn

from model.clip.backbone import load_backbone
from model.clip.weights import describe, is_openais, load_clip, read_weights, sha256_of
from model.config import Architecture, BackboneConfig
from model.errors import BackboneError
from tests.model import tiny

PLAIN = tiny.variant(stem=())
WANTED = "wanted a state dict as safetensors, as torch.save writes it, or in OpenAI's TorchScript"


class Script(nn.Module):
    """Modules with parameters under the names of a state dict, as OpenAI's archive holds them."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    @classmethod
    def of(cls, weights: dict[str, Tensor], buffers: set[str]) -> "Script":
        root = cls()
        for name, value in weights.items():
            *path, last = name.split(".")
            place: nn.Module = root
            for part in path:
                if not hasattr(place, part):
                    place.add_module(part, cls())
                place = getattr(place, part)
            if last in buffers:
                place.register_buffer(last, value.clone())
            else:
                place.register_parameter(last, nn.Parameter(value.clone(), requires_grad=False))
        return root


def save_script(module: nn.Module, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that TorchScript will go
        torch.jit.save(torch.jit.script(module), path)


NUMBERS = {"input_resolution": 224, "context_length": 77, "vocab_size": 49_408}
BUFFERS = {*NUMBERS, "running_mean", "running_var", "num_batches_tracked"}


def openai_layout(clip: nn.Module) -> dict[str, Tensor]:
    """OpenAI's: linear layers and convolutions in 16 bit, and three numbers that are no
    parameters.
    """
    halves = copy.deepcopy(clip)
    convert_weights_to_lp(halves, torch.float16)
    return dict(halves.state_dict()) | {
        name: torch.tensor(number) for name, number in NUMBERS.items()
    }


def save_openai_archive(clip: nn.Module, path: Path) -> None:
    save_script(Script.of(openai_layout(clip), BUFFERS), path)


def test_a_torchscript_archive_gives_what_torch_reads_from_it(tmp_path: Path) -> None:
    clip = tiny.random_clip(PLAIN)
    save_openai_archive(clip, tmp_path / "clip.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = torch.jit.load(tmp_path / "clip.pt").state_dict()
    found = read_weights(tmp_path / "clip.pt")
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(found[name], value.float() if value.is_floating_point() else value)
    assert is_openais(found)


class Odd(nn.Module):
    """What an archive can hold besides: views of one storage, lists, other types, nothing."""

    def __init__(self) -> None:
        super().__init__()
        both = torch.arange(12.0).reshape(3, 4)
        self.register_buffer("turned", both.T)
        self.register_buffer("part", both[1:, 2])
        self.register_buffer("brain", torch.ones(2, dtype=torch.bfloat16))
        self.register_buffer("none", torch.empty(0, 3))
        self.sizes: list[int] = [1, 2]
        self.names: dict[str, float] = {"a": 0.5}
        self.children_ = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_a_torchscript_archive_may_hold_views_lists_and_other_types(tmp_path: Path) -> None:
    odd = Odd()
    save_script(odd, tmp_path / "odd.pt")
    found = read_weights(tmp_path / "odd.pt")
    assert found.keys() == odd.state_dict().keys()
    for name, value in odd.state_dict().items():
        assert torch.equal(found[name], value.float() if value.is_floating_point() else value)


class Evil(nn.Module):
    """Loading this with torch.jit.load writes a file."""

    def __init__(self, victim: str) -> None:
        super().__init__()
        self.w: Tensor = nn.Parameter(torch.zeros(2))
        self.victim = victim

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, str, bool]:
        return (self.w, self.victim, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, str, bool]) -> None:
        self.w = state[0]
        self.victim = state[1]
        self.training = state[2]
        torch.save(self.w, self.victim)

    def forward(self, x: Tensor) -> Tensor:
        return x


class Innocent(nn.Module):
    def __init__(self, victim: Path) -> None:
        super().__init__()
        self.inner = Evil(str(victim))

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_the_code_of_a_torchscript_archive_does_not_run(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "clip.pt"
    save_script(Innocent(victim), path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(path)
    assert victim.exists()  # so that the attack is a real one
    victim.unlink()
    with pytest.raises(BackboneError):
        load_backbone(BackboneConfig(source="file", path=str(path), architecture=PLAIN))
    assert not victim.exists()


class Malice:
    """Unpickling this makes a file."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.victim,)


def pickled(victim: Path, path: Path) -> None:
    path.write_bytes(pickle.dumps(Malice(victim)))


def torch_saved(victim: Path, path: Path) -> None:
    torch.save({"state_dict": {"visual.proj": Malice(victim)}}, path)


def torch_saved_the_old_way(victim: Path, path: Path) -> None:
    torch.save(Malice(victim), path, _use_new_zipfile_serialization=False)


def in_a_script(victim: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("clip/constants.pkl", pickle.dumps(()))
        archive.writestr("clip/data.pkl", pickle.dumps(Malice(victim), protocol=2))


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors", "weights"])
@pytest.mark.parametrize("write", [pickled, torch_saved, torch_saved_the_old_way, in_a_script])
def test_a_malicious_pickle_is_refused_and_does_not_run(
    write: Callable[[Path, Path], None], name: str, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    write(victim, tmp_path / name)
    source = BackboneConfig(
        source="file", path=str(tmp_path / name), architecture=tiny.ARCHITECTURE
    )
    with pytest.raises(BackboneError, match="can be read safely: found a pickle of more than"):
        load_backbone(source)
    assert not victim.exists()


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def pointer(path: Path) -> None:
    """What a clone without Git LFS leaves in place of a large file."""
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 605157884\n")


def secret(path: Path) -> None:
    path.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")


def noise(path: Path) -> None:
    path.write_bytes(np.random.RandomState(0).bytes(4096))


def cut(save: Callable[[Path], object]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return write


def safetensors(path: Path) -> None:
    save_file(dict(tiny.random_clip(PLAIN).state_dict()), path)


def torch_file(path: Path) -> None:
    torch.save(tiny.random_clip(PLAIN).state_dict(), path)


def old_torch_file(path: Path) -> None:
    weights = tiny.random_clip(PLAIN).state_dict()
    torch.save(weights, path, _use_new_zipfile_serialization=False)


def flipped_archive(path: Path) -> None:
    """An archive whose tensors changed on their way."""
    clip = tiny.random_clip(PLAIN)
    save_openai_archive(clip, path)
    content, tensor = path.read_bytes(), clip.state_dict()["visual.proj"].half().numpy().tobytes()
    assert tensor in content
    path.write_bytes(content.replace(tensor, b"\xff\xff" + tensor[2:]))


WRONG_FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (nothing, "an empty file"),
    "pointer": (pointer, r"a pointer of Git LFS instead of the file \(`git lfs pull` brings it\)"),
    "secret": (secret, r"a text file, wanted"),
    "noise": (noise, "bytes of no layout that is known"),
    "cut-safetensors": (cut(safetensors), "a safetensors file that is cut off or damaged"),
    "cut-torch-file": (cut(torch_file), "a torch file that is cut off or damaged"),
    "cut-old-torch-file": (cut(old_torch_file), "a torch file that is cut off or damaged"),
    "flipped-archive": (flipped_archive, "a torch file that is cut off or damaged"),
}


@pytest.mark.parametrize("name", ["clip.pt", "clip.safetensors"])
@pytest.mark.parametrize(("write", "found"), WRONG_FILES.values(), ids=WRONG_FILES.keys())
def test_a_file_that_can_not_be_read_is_refused_by_what_it_is(
    write: Callable[[Path], None], found: str, name: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    with pytest.raises(BackboneError, match=rf"{name} holds no weights .*: found {found}") as no:
        read_weights(tmp_path / name)
    assert WANTED in str(no.value)
    assert "\n" not in str(no.value)
    assert "PRIVATE" not in str(no.value)


@pytest.mark.parametrize(
    "content",
    [[torch.zeros(2)], torch.zeros(2), {"state_dict": [1]}, {1: torch.zeros(2)}, {"epoch": 3}],
    ids=["list", "tensor", "list-inside", "numbered", "no-tensor"],
)
def test_a_file_that_holds_no_state_dict_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(BackboneError, match=r"weights\.pt holds no state dict"):
        read_weights(tmp_path / "weights.pt")


WIDER = tiny.variant({"width": 48}, {"width": 24}, stem=())
DEEPER = tiny.variant({"layers": 3}, stem=())
FINER = tiny.variant({"patch_size": 16}, stem=())
LARGER = tiny.variant({"image_size": 256}, stem=())
RESNET = Architecture(
    embed_dim=16,
    vision_cfg={"image_size": 64, "layers": [1, 2, 1, 1], "width": 16},
    text_cfg=dict(PLAIN.text_cfg),
)


def weights_of(architecture: Architecture) -> dict[str, Tensor]:
    settings = tiny.open_clips(architecture)
    return dict(open_clip.CLIP(**settings).state_dict())


def without(name: str) -> dict[str, Tensor]:
    weights = weights_of(PLAIN)
    del weights[name]
    return weights


def transformers_layout() -> dict[str, Tensor]:
    return {
        "logit_scale": torch.zeros(()),
        "text_model.embeddings.token_embedding.weight": torch.zeros(9, 16),
        "vision_model.embeddings.class_embedding": torch.zeros(32),
        "visual_projection.weight": torch.zeros(16, 32),
    }


VIT = r"a CLIP with a ViT image tower \(2 layers of width 32, patch 32\) and a text tower \(2 "
OTHERS: dict[str, tuple[Callable[[], dict[str, Tensor]], str]] = {
    "wider": (lambda: weights_of(WIDER), r"ViT image tower \(2 layers of width 48, patch 32\)"),
    "wider-text": (lambda: weights_of(WIDER), r"text tower \(2 layers of width 24\)"),
    "deeper": (lambda: weights_of(DEEPER), r"\(3 layers of width 32, patch 32\).*: the tensor"),
    "finer": (
        lambda: weights_of(FINER),
        r"width 32, patch 16\).*embedding is \[197, 32\], wanted \[50",
    ),
    "larger": (
        lambda: weights_of(LARGER),
        r"positional_embedding is \[65, 32\], wanted \[50, 32\]",
    ),
    "missing": (lambda: without("visual.proj"), r"visual\.proj \[32, 16\] is missing"),
    "extra": (
        lambda: weights_of(PLAIN) | {"visual.head": torch.zeros(2)},
        r"visual\.head \[2\] belongs to another network",
    ),
    "resnet": (lambda: weights_of(RESNET), r"a CLIP with a ResNet image tower \(blocks \[1, 2, 1"),
    "transformers": (transformers_layout, r"a CLIP of the transformers library \(convert it"),
    "timm": (lambda: {"visual.trunk.cls_token": torch.zeros(1)}, "image tower of the timm library"),
    "no-clip": (
        lambda: {f"layer.{i}.weight": torch.zeros(1) for i in range(7)},
        r"7 tensors of no CLIP \(layer\.0\.weight, layer\.1\.weight, layer\.2\.weight \.\.\.\)",
    ),
}


@pytest.mark.parametrize(("weights", "says"), OTHERS.values(), ids=OTHERS.keys())
def test_weights_of_another_network_are_refused_by_what_they_are_and_what_is_wanted(
    weights: Callable[[], dict[str, Tensor]], says: str, tmp_path: Path
) -> None:
    torch.save(weights(), tmp_path / "other.pt")
    source = BackboneConfig(source="file", path="other.pt", architecture=PLAIN)
    with pytest.raises(BackboneError, match=rf"^other\.pt holds .*{says}") as no:
        load_backbone(source, tmp_path)
    assert no.match(f", wanted {VIT}")


def test_a_vit_is_refused_where_a_resnet_is_wanted() -> None:
    resnet = open_clip.CLIP(**tiny.open_clips(RESNET))
    with pytest.raises(BackboneError, match=rf"vit\.pt holds {VIT}.*wanted a CLIP with a ResNet"):
        load_clip(resnet, weights_of(PLAIN), "vit.pt")


def test_a_refused_state_dict_changes_nothing() -> None:
    clip = tiny.random_clip(PLAIN)
    before = {name: value.clone() for name, value in clip.state_dict().items()}
    weights = weights_of(PLAIN)
    weights["ln_final.bias"] = torch.zeros(3)
    with pytest.raises(BackboneError, match=r"ln_final\.bias is \[3\], wanted \[16\]"):
        load_clip(clip, weights, "clip.pt")
    assert all(torch.equal(value, before[name]) for name, value in clip.state_dict().items())


def test_tensors_that_are_no_weights_are_left_out() -> None:
    clip = tiny.random_clip(PLAIN)
    others = {name: torch.zeros(()) for name in (*NUMBERS, "attn_mask", "text.attn_mask")}
    weights = weights_of(PLAIN)
    load_clip(clip, weights | others, "clip.pt")
    assert torch.equal(clip.state_dict()["visual.proj"], weights["visual.proj"])


def test_no_tensors_are_described_as_such() -> None:
    assert describe({}) == "no tensors"


def test_a_digest_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of(tmp_path / "file").startswith("ba7816bf8f01cfea414140de5dae2223b00361a3")
