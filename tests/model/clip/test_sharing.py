"""Several checkpoints loaded together: equal backbones are in memory once, and nobody's scores
change.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import model
from model.clip.towers import VisionTower
from model.config import BackboneConfig, CheckpointConfig, CropPolicy
from model.errors import BackboneError, CheckpointError
from model.methods.network import Network
from model.methods.registry import build_network
from model.scorer import Scorer
from model.scores import Score
from model.store.checkpoint import read_config, save_checkpoint, write_config
from tests.model import tiny

PICTURE = tiny.picture(300, 260)
# Small options of each method; every one is learned or read from a CLIP of its own width.
METHODS: Mapping[str, dict[str, Any]] = {
    "clip-agiqa": {"context_length": 3, "visual_length": 2},
    "mp-iqe": {
        "context_length": 2,
        "visual_length": 2,
        "decoder_heads": 2,
        "decoder_layers": 1,
    },
    "clip-iqa": {"attributes": ["sharpness"]},
}


def shaken(method: str, clip: nn.Module, seed: int) -> Network:
    """A method's network with every learned number different from its start."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_network(method, clip, METHODS[method])
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.trainable_parameters().values():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=noise))
    return network


def checkpoint(
    folder: Path, method: str, *, seed: int = 0, architecture: Any = tiny.ARCHITECTURE
) -> Path:
    """A checkpoint of a method around the CLIP with that seed, which it holds."""
    clip = tiny.random_clip(architecture, seed)
    network = shaken(method, clip, seed)
    config = CheckpointConfig(
        name=folder.name,
        method=method,
        backbone=BackboneConfig(source="checkpoint", architecture=architecture),
        options=network.options.model_dump(mode="json"),
        heads=network.heads,
    )
    save_checkpoint(
        folder, config, network, card="", metrics={}, backbone=clip, dtype=torch.float32
    )
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each method, all around the same CLIP."""
    place = tmp_path_factory.mktemp("checkpoints")
    return {method: checkpoint(place / method, method) for method in METHODS}


def image_tower(scorer: Scorer) -> nn.Module:
    (tower,) = (m for m in scorer._net.modules() if isinstance(m, VisionTower))  # type: ignore[attr-defined]
    return tower.visual


def places(scorer: Scorer) -> list[int]:
    """Where the numbers of its image tower lie in memory."""
    return [parameter.data_ptr() for parameter in image_tower(scorer).parameters()]


def together(folders: Sequence[Path], dtype: str = "float32") -> list[Scorer]:
    return Scorer.load_several(folders, device="cpu", dtype=dtype)


def score(scorer: Scorer) -> Score:
    prompt = "a cat" if "consistency" in scorer.config.heads else None
    return scorer.score(PICTURE, prompt)


def test_checkpoints_with_equal_backbones_hold_one_in_memory(folders: dict[str, Path]) -> None:
    first, *others = together(list(folders.values()))
    assert len(places(first)) > 10
    for other in others:
        assert image_tower(other) is image_tower(first)
        assert places(other) == places(first)


def test_loaded_one_by_one_they_share_nothing(folders: dict[str, Path]) -> None:
    first, other = (together([folders[m]])[0] for m in ("clip-agiqa", "mp-iqe"))
    assert not set(places(first)) & set(places(other))


ORDERS = {
    "agiqa-first": ("clip-agiqa", "mp-iqe", "clip-iqa"),
    "mp-iqe-first": ("mp-iqe", "clip-agiqa"),
    "agiqa-last": ("clip-iqa", "mp-iqe", "clip-agiqa"),
}


@pytest.mark.parametrize("methods", ORDERS.values(), ids=ORDERS.keys())
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_together_each_scores_exactly_as_when_loaded_alone(
    dtype: str, methods: Sequence[str], folders: dict[str, Path]
) -> None:
    for method, scorer in zip(methods, together([folders[m] for m in methods], dtype), strict=True):
        alone = model.load(str(folders[method]), device="cpu", dtype=dtype)
        assert score(scorer) == score(alone), method
        assert scorer.config == alone.config


def test_the_scorers_differ_so_that_equality_means_something(folders: dict[str, Path]) -> None:
    found = [score(scorer).quality for scorer in together(list(folders.values()))]
    assert len(set(found)) == len(found)


def test_the_same_checkpoint_twice_is_two_scorers_on_one_backbone(
    folders: dict[str, Path],
) -> None:
    first, second = together([folders["mp-iqe"]] * 2)
    assert first is not second
    assert places(first) == places(second)
    assert score(first) == score(second)


def test_one_file_serves_checkpoints_that_hold_it_and_that_refer_to_it(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    refers = Path(shutil.copytree(folders["mp-iqe"], tmp_path / "refers"))
    (refers / "backbone.safetensors").rename(tmp_path / "shared.safetensors")
    config = read_config(refers)
    elsewhere = {"source": "file", "path": "../shared.safetensors"}
    backbone = config.backbone.model_copy(update=elsewhere)
    write_config(refers, config.model_copy(update={"backbone": backbone}))
    first, second = together([folders["clip-agiqa"], refers])
    assert places(first) == places(second)


def test_other_weights_are_not_shared(folders: dict[str, Path], tmp_path: Path) -> None:
    other = checkpoint(tmp_path / "other", "mp-iqe", seed=1)
    first, second = together([folders["clip-agiqa"], other])
    assert not set(places(first)) & set(places(second))
    for scorer, folder in ((first, folders["clip-agiqa"]), (second, other)):
        assert score(scorer) == score(model.load(str(folder), device="cpu", dtype="float32"))


def test_equal_weights_in_another_architecture_are_not_shared(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    gelu = tiny.variant(quick_gelu=False)
    other = checkpoint(tmp_path / "gelu", "mp-iqe", architecture=gelu)
    first, second = together([folders["mp-iqe"], other])
    weights = [folder / "backbone.safetensors" for folder in (folders["mp-iqe"], other)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert not set(places(first)) & set(places(second))
    assert score(first).quality != pytest.approx(score(second).quality, abs=1e-6)


def test_each_checkpoint_keeps_its_own_crop_policy(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    coarse = Path(shutil.copytree(folders["mp-iqe"], tmp_path / "coarse"))
    policy = CropPolicy(max_windows=1)
    write_config(coarse, read_config(coarse).model_copy(update={"crop_policy": policy}))
    scorers = together([folders["mp-iqe"], coarse])
    assert [scorer.plan(512, 512).cost for scorer in scorers] == [9, 1]


def test_a_fault_says_which_of_several_models_it_is_in(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(folders["mp-iqe"], tmp_path / "broken"))
    (broken / "backbone.safetensors").unlink()
    with pytest.raises(BackboneError, match="backbone weights not found") as fault:
        together([folders["clip-agiqa"], broken])
    assert fault.value.__notes__ == [f"while loading {broken}"]


def test_an_unfitting_option_says_which_of_several_models_it_does_not_fit(
    folders: dict[str, Path],
) -> None:
    names = [folders["clip-agiqa"], folders["mp-iqe"]]
    with pytest.raises(ValueError, match="whole images need a ResNet") as fault:
        Scorer.load_several(names, device="cpu", crop_policy="whole")
    assert fault.value.__notes__ == [f"while loading {names[0]}"]


def test_a_fault_of_the_only_model_needs_no_note(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as fault:
        together([tmp_path / "nowhere"])
    assert not getattr(fault.value, "__notes__", [])


def test_no_checkpoints_are_no_scorers() -> None:
    assert together([]) == []
