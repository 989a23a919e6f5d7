"""Checkpoints put together from weights alone: each scores as the network itself does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import model
from model.clip.backbone import random_open_clip
from model.clip.weights import sha256_of
from model.config import CLIP_NORMALISATION, BackboneConfig, CheckpointConfig, CropPolicy
from model.errors import BackboneError, CheckpointError
from model.methods.registry import build_network
from model.scorer import Scorer
from model.store.assemble import assemble
from model.store.checkpoint import load_network, read_config, without_digests
from tests.model import tiny
from tests.model.clip.test_sources import SETTINGS, WEIGHTS
from tests.model.fake_hub import put_in_cache, use_hub

VIT, RESNET = "agiqa-assemble-vit", "agiqa-assemble-resnet"
SMALL = tiny.variant({"image_size": 64}, stem=())
ARCHITECTURES = {
    VIT: tiny.open_clips(SMALL),
    RESNET: tiny.open_clips(SMALL)
    | {"vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16}},
}
PICTURE = tiny.picture(150, 130)


@pytest.fixture(scope="module", autouse=True)
def known(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Makes the architectures known to open_clip by name."""
    folder = tmp_path_factory.mktemp("architectures")
    for name, settings in ARCHITECTURES.items():
        (folder / f"{name}.json").write_text(json.dumps(settings))
    open_clip.add_model_config(folder)


def clip_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    clip = random_open_clip(name).eval()
    tiny.shake(clip)
    return clip


def weights_of(clip: nn.Module, path: Path) -> Path:
    save_file({k: v.contiguous() for k, v in clip.state_dict().items()}, path)
    return path


def liqe_weights(clip: nn.Module, path: Path) -> Path:
    """LIQE's file as pyiqa has it."""
    params = {f"clip_model.{name}": value for name, value in clip.state_dict().items()}
    torch.save({"params": params}, path)
    return path


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    return weights_of(clip_of(VIT), tmp_path / "vit.safetensors")


@pytest.fixture
def resnet(tmp_path: Path) -> Path:
    return weights_of(clip_of(RESNET), tmp_path / "resnet.safetensors")


def direct(
    method: str, architecture: str, policy: CropPolicy, options: dict[str, Any] | None = None
) -> Scorer:
    """The scorer of a network that never was a checkpoint."""
    config = CheckpointConfig(
        name="direct",
        method=method,
        backbone=BackboneConfig(source="checkpoint", name=architecture),
        heads=("quality",),
        crop_policy=policy,
        normalisation=CLIP_NORMALISATION,
    )
    network = build_network(method, clip_of(architecture), options or {})
    return Scorer(config, network, device="cpu", dtype="float32")


def load(folder: Path) -> Scorer:
    return model.load(str(folder), device="cpu", dtype="float32")


def test_clip_iqa_on_a_vit_takes_a_grid_and_scores_as_the_network_itself(
    vit: Path, tmp_path: Path
) -> None:
    config = assemble("clip-iqa", tmp_path / "out", architecture=VIT, weights=vit)
    assert config.crop_policy == CropPolicy(size=64)
    assert config.crop_policy.kind == "grid"
    score = load(tmp_path / "out").score(PICTURE)
    assert score == direct("clip-iqa", VIT, CropPolicy(size=64)).score(PICTURE)
    assert score.crops > 1
    assert score.attributes is not None
    assert len(score.attributes) == 5


def test_clip_iqa_on_a_resnet_takes_the_whole_image_and_scores_as_the_network_itself(
    resnet: Path, tmp_path: Path
) -> None:
    config = assemble("clip-iqa", tmp_path / "out", architecture=RESNET, weights=resnet)
    assert (config.crop_policy.kind, config.crop_policy.size) == ("whole", 64)
    score = load(tmp_path / "out").score(PICTURE)
    assert score == direct("clip-iqa", RESNET, CropPolicy.whole(64)).score(PICTURE)
    assert score.crops == 1


def test_liqe_from_its_own_file_takes_its_own_crops_and_scores_as_the_network_itself(
    tmp_path: Path,
) -> None:
    weights = liqe_weights(clip_of(VIT), tmp_path / "liqe_mix.pt")
    config = assemble("liqe", tmp_path / "out", architecture=VIT, weights=weights)
    assert config.crop_policy == CropPolicy.liqe(64)
    assert (config.crop_policy.stride, config.crop_policy.max_windows) == (32, 15)
    score = load(tmp_path / "out").score(PICTURE)
    assert score == direct("liqe", VIT, CropPolicy.liqe(64)).score(PICTURE)
    assert score.scene is not None
    assert sum(score.scene.values()) == pytest.approx(1, abs=1e-5)


def test_a_checkpoint_says_what_it_was_put_together_from(vit: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "clip-iqa-tiny"
    config = assemble("clip-iqa", out, architecture=VIT, weights=vit)
    assert without_digests(read_config(out)) == config
    assert (config.name, config.method, config.heads) == ("clip-iqa-tiny", "clip-iqa", ("quality",))
    assert config.revision == sha256_of(vit)[:12]
    assert config.normalisation == CLIP_NORMALISATION
    assert config.backbone == BackboneConfig(source="checkpoint", name=VIT)
    card: Any = huggingface_hub.ModelCard((out / "README.md").read_text())
    assert (card.data.library_name, card.data.license) == ("agiqa", "other")
    assert "Nothing was trained or\nmeasured here" in card.text


def test_a_weights_file_is_copied_so_that_the_checkpoint_stands_alone(
    vit: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assemble("clip-iqa", out, architecture=VIT, weights=vit, name="mine")
    wanted = load(out).score(PICTURE)
    vit.unlink()
    assert load(out.rename(tmp_path / "moved")).score(PICTURE) == wanted
    assert read_config(tmp_path / "moved").name == "mine"


def test_pairs_of_ones_own_are_compared(vit: Path, tmp_path: Path) -> None:
    options = {
        "attributes": ["sharpness"],
        "pairs": {"mood": ("Happy photo.", "Sad photo."), "quality": ("Fine.", "Awful.")},
    }
    out = tmp_path / "out"
    config = assemble("clip-iqa", out, architecture=VIT, weights=vit, options=options)
    assert config.options["pairs"]["mood"] == ["Happy photo.", "Sad photo."]
    score = load(out).score(PICTURE)
    assert score == direct("clip-iqa", VIT, CropPolicy(size=64), options).score(PICTURE)
    assert score.attributes is not None
    assert score.attributes.keys() == {"sharpness", "mood"}
    usual = direct("clip-iqa", VIT, CropPolicy(size=64)).score(PICTURE)
    assert score.quality != pytest.approx(usual.quality, abs=1e-5)


@pytest.mark.parametrize("kind", ["grid", "official", "liqe", "random"])
def test_another_crop_policy_can_be_chosen(kind: str, vit: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    config = assemble("clip-iqa", out, architecture=VIT, weights=vit, crop_policy=kind)
    assert (config.crop_policy.kind, config.crop_policy.size) == (kind, 64)
    assert load(out).score(PICTURE).crops == load(out).plan(*PICTURE.size).cost


def test_a_tag_is_referred_to_and_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    weights = weights_of(clip_of(VIT), tmp_path / "weights").read_bytes()
    put_in_cache(tmp_path / "cache", "owner/vit", {WEIGHTS: weights})
    tags = {"mine": open_clip.pretrained._pcfg(hf_hub="owner/vit/", quick_gelu=True)}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, VIT, tags)
    out = tmp_path / "out"
    config = assemble("clip-iqa", out, architecture=VIT, pretrained="mine")
    assert config.backbone == BackboneConfig(source="open_clip", name=VIT, pretrained="mine")
    assert not (out / "backbone.safetensors").exists()
    wanted = direct("clip-iqa", VIT, CropPolicy(size=64)).score(PICTURE)
    assert load(out).score(PICTURE) == wanted


def test_a_clip_of_the_hub_needs_no_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    weights = weights_of(clip_of(RESNET), tmp_path / "weights").read_bytes()
    settings = json.dumps({"model_cfg": ARCHITECTURES[RESNET]}).encode()
    put_in_cache(tmp_path / "cache", "owner/clip", {SETTINGS: settings, WEIGHTS: weights})
    out = tmp_path / "out"
    assemble("clip-iqa", out, architecture="hf-hub:owner/clip")
    wanted = direct("clip-iqa", RESNET, CropPolicy.whole(64)).score(PICTURE)
    assert load(out).score(PICTURE) == wanted


Call = Callable[[Path, Path], object]
REFUSED: dict[str, tuple[Call, type[Exception], str]] = {
    "must-be-trained": (
        lambda out, w: assemble("clip-iqa-plus", out, architecture=VIT, weights=w),
        CheckpointError,
        "clip-iqa-plus has parameters of its own to learn: use agiqa train",
    ),
    "must-be-trained-too": (
        lambda out, w: assemble("clip-agiqa", out, architecture=VIT, weights=w),
        CheckpointError,
        "clip-agiqa has parameters of its own to learn",
    ),
    "unknown-method": (
        lambda out, w: assemble("astrology", out, architecture=VIT, weights=w),
        CheckpointError,
        "unknown method 'astrology'; known: .*clip-iqa.*liqe",
    ),
    "weights-and-tag": (
        lambda out, w: assemble("liqe", out, architecture=VIT, weights=w, pretrained="openai"),
        CheckpointError,
        "a weights file or a tag of open_clip, not both",
    ),
    "neither-weights-nor-tag": (
        lambda out, w: assemble("liqe", out, architecture=VIT),
        CheckpointError,
        "give the weights: a file, or a tag of open_clip",
    ),
    "unknown-option": (
        lambda out, w: assemble(
            "clip-iqa", out, architecture=VIT, weights=w, options={"colour": "blue"}
        ),
        CheckpointError,
        "the options do not fit clip-iqa: .*\n?colour",
    ),
    "unknown-architecture": (
        lambda out, w: assemble("liqe", out, architecture="ViT-Z-99", weights=w),
        BackboneError,
        "knows no architecture 'ViT-Z-99'",
    ),
    "unknown-tag": (
        lambda out, w: assemble("liqe", out, architecture="ViT-B-32", pretrained="moon"),
        BackboneError,
        "no weights 'moon' for ViT-B-32",
    ),
    "no-file": (
        lambda out, w: assemble("liqe", out, architecture=VIT, weights=w.with_name("none.pt")),
        BackboneError,
        r"backbone weights not found: .*none\.pt",
    ),
    "other-architecture": (
        lambda out, w: assemble("clip-iqa", out, architecture=RESNET, weights=w),
        BackboneError,
        r"vit\.safetensors holds a CLIP with a ViT .*, wanted a CLIP with a ResNet",
    ),
    "liqe-on-a-resnet": (
        lambda out, w: assemble(
            "liqe", out, architecture=RESNET, weights=weights_of(clip_of(RESNET), w)
        ),
        BackboneError,
        "ViT image tower .found ModifiedResNet",
    ),
    "whole-images-with-a-vit": (
        lambda out, w: assemble("liqe", out, architecture=VIT, weights=w, crop_policy="whole"),
        CheckpointError,
        "whole images need a ResNet",
    ),
    "unknown-crop-policy": (
        lambda out, w: assemble("liqe", out, architecture=VIT, weights=w, crop_policy="spiral"),
        CheckpointError,
        "crop policy 'spiral': choose grid",
    ),
}


@pytest.mark.parametrize(("call", "kind", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_can_not_be_put_together_is_refused_and_nothing_is_written(
    call: Call, kind: type[Exception], says: str, vit: Path, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=f"(?s){says}"):
        call(tmp_path / "out", vit)
    assert not (tmp_path / "out").exists()


def test_a_liqe_checkpoint_holds_its_clip_in_32_bit_and_no_parameters_beside_it(
    tmp_path: Path,
) -> None:
    clip = clip_of(VIT)
    weights = liqe_weights(clip, tmp_path / "liqe_mix.pt")
    assemble("liqe", tmp_path / "out", architecture=VIT, weights=weights)
    _, network = load_network(tmp_path / "out")
    assert network.stored() == {}
    assert torch.equal(network.vision.visual.proj, clip.visual.proj)  # type: ignore[arg-type]
