"""Backbones and checkpoints from every source that people have: files, tags, the hub's cache."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from huggingface_hub import constants
from open_clip import pretrained
from safetensors.torch import save, save_file
from torch import Tensor, nn

import model
from model.clip.backbone import build, load_backbone, random_open_clip
from model.clip.weights import sha256_of
from model.config import HEADS, BackboneConfig
from model.errors import BackboneError, CheckpointError
from model.scorer import Scorer
from model.store.checkpoint import save_checkpoint
from tests.model import tiny
from tests.model.clip.test_weights import openai_layout, save_openai_archive
from tests.model.fake_hub import Files, files_in, put_in_cache, use_hub

PICTURE = tiny.picture(300, 260)


@pytest.fixture(params=["switched-off", "no-network"])
def offline(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Path:
    """An empty cache without a way to the hub: HF_HUB_OFFLINE, or nothing that answers."""
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", request.param == "switched-off")
    return tmp_path / "cache"


SIDE = 64
SMALL = tiny.variant({"image_size": SIDE}, stem=(), quick_gelu=False)
PLAIN = tiny.open_clips(SMALL)
RESNET = {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": 16}
ARCHITECTURES = {
    "agiqa-vit": PLAIN,
    "agiqa-vit-quickgelu": PLAIN | {"quick_gelu": True},
    "agiqa-resnet-quickgelu": PLAIN | {"quick_gelu": True, "vision_cfg": RESNET},
}
TAGS = {"safe": "owner/safe/", "old": "owner/old/", "named": "owner/named/pytorch_model.bin"}


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes the architectures known to open_clip by name."""
    folder = tmp_path_factory.mktemp("architectures")
    for name, settings in ARCHITECTURES.items():
        (folder / f"{name}.json").write_text(json.dumps(settings))
    open_clip.add_model_config(folder)
    return folder


@pytest.fixture(autouse=True)
def tags(known: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives each architecture tags of every kind that open_clip has: with QuickGELU, as OpenAI."""
    for name in ARCHITECTURES:
        entries = {tag: pretrained._pcfg(hf_hub=at, quick_gelu=True) for tag, at in TAGS.items()}
        monkeypatch.setitem(pretrained._PRETRAINED, name, entries)


def random_clip(name: str) -> nn.Module:
    """An architecture with weights that 16 bit hold exactly, so that no layout loses any. Frozen as
    loaded ones are: torch multiplies what learns by another kernel, which rounds otherwise.
    """
    torch.manual_seed(0)
    clip = random_open_clip(name).eval().requires_grad_(False)
    tiny.shake(clip)
    for value in clip.state_dict().values():
        value.copy_(value.half())
    return clip


def safetensors(clip: nn.Module) -> bytes:
    return save({k: v.contiguous() for k, v in clip.state_dict().items()})


Source = Callable[[nn.Module, str, Path], BackboneConfig]


def file(path: str, save: Callable[[nn.Module, Path], object]) -> Source:
    def source(clip: nn.Module, name: str, place: Path) -> BackboneConfig:
        save(clip, place / path)
        return BackboneConfig(source="file", path=path, name=name)

    return source


def as_old_torch_file(clip: nn.Module, path: Path) -> None:
    torch.save(clip.state_dict(), path, _use_new_zipfile_serialization=False)


def as_training_checkpoint(clip: nn.Module, path: Path) -> None:
    weights = {f"module.{name}": tensor for name, tensor in clip.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": weights, "optimizer": {"lr": 0.1}}, path)


def as_liqe(clip: nn.Module, path: Path) -> None:
    weights = {f"clip_model.{name}": tensor for name, tensor in clip.state_dict().items()}
    torch.save({"params": weights}, path)


SETTINGS, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


def settings_of(name: str) -> bytes:
    return json.dumps({"model_cfg": ARCHITECTURES[name], "preprocess_cfg": {}}).encode()


def content_of(clip: nn.Module, file_name: str, place: Path) -> bytes:
    if file_name.endswith(".safetensors"):
        return safetensors(clip)
    torch.save(clip.state_dict(), place / "saved")
    return (place / "saved").read_bytes()


def of_tag(tag: str, file_name: str) -> Source:
    def source(clip: nn.Module, name: str, place: Path) -> BackboneConfig:
        files = {file_name: content_of(clip, file_name, place)}
        put_in_cache(place / "cache", f"owner/{tag}", files)
        return BackboneConfig(source="open_clip", name=name, pretrained=tag)

    return source


def on_hub(file_name: str) -> Source:
    def source(clip: nn.Module, name: str, place: Path) -> BackboneConfig:
        files = {SETTINGS: settings_of(name), file_name: content_of(clip, file_name, place)}
        put_in_cache(place / "cache", "owner/clip", files)
        return BackboneConfig(source="open_clip", name="hf-hub:owner/clip")

    return source


SOURCES: dict[str, Source] = {
    "safetensors": file("clip.safetensors", lambda clip, path: path.write_bytes(safetensors(clip))),
    "torch-file": file("clip.bin", lambda clip, path: torch.save(clip.state_dict(), path)),
    "old-torch-file": file("clip.pt", as_old_torch_file),
    "training-checkpoint": file("epoch_3.pt", as_training_checkpoint),
    "openai-archive": file("ViT-B-32.pt", save_openai_archive),
    "openai-state-dict": file("clip.pt", lambda clip, path: torch.save(openai_layout(clip), path)),
    "liqe": file("liqe_mix.pt", as_liqe),
    "tag-safetensors": of_tag("safe", WEIGHTS),
    "tag-bin": of_tag("old", "open_clip_pytorch_model.bin"),
    "tag-of-a-named-file": of_tag("named", "pytorch_model.bin"),
    "hf-hub-safetensors": on_hub(WEIGHTS),
    "hf-hub-bin": on_hub("open_clip_pytorch_model.bin"),
}


def features(clip: nn.Module) -> list[Tensor]:
    """What both towers make of two images and two texts."""
    images = torch.randn(2, 3, SIDE, SIDE, generator=torch.manual_seed(1))
    texts = open_clip.SimpleTokenizer()(["a photo", "two dogs at night"])
    with torch.no_grad():
        return [clip.encode_image(images), clip.encode_text(texts)]


@pytest.mark.parametrize("name", ["agiqa-vit-quickgelu", "agiqa-resnet-quickgelu"])
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_every_source_gives_the_features_of_the_module_that_it_came_from(
    source: Source,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    clip = random_clip(name)
    loaded = load_backbone(source(clip, name, tmp_path), tmp_path)
    for ours, theirs in zip(features(loaded), features(clip), strict=True):
        torch.testing.assert_close(ours, theirs, atol=0, rtol=0)
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}
    assert not any(value.requires_grad for value in loaded.parameters())
    assert not any(module.training for module in loaded.modules())
    assert not loaded.state_dict().keys() ^ clip.state_dict().keys()


REAL_TAGS = {
    "openai": ("ViT-B-32-quickgelu", "openai", "timm/vit_base_patch32_clip_224.openai"),
    "laion": ("ViT-B-32", "laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tag", "repository"), REAL_TAGS.values(), ids=REAL_TAGS.keys())
def test_real_tags_are_read_from_where_open_clip_downloads_them_to(
    name: str,
    tag: str,
    repository: str,
    vit_b_32: nn.Module,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path)
    halves = {k: v.half().contiguous() for k, v in vit_b_32.state_dict().items()}
    put_in_cache(tmp_path, repository, {WEIGHTS: save(halves)})
    loaded = load_backbone(BackboneConfig(source="open_clip", name=name, pretrained=tag))
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, halves[key].float()), key


MISSING: dict[str, tuple[Callable[[], object], str]] = {
    "tag": (
        lambda: load_backbone(
            BackboneConfig(source="open_clip", name="ViT-B-32-quickgelu", pretrained="openai")
        ),
        "the weights ViT-B-32-quickgelu/openai could not be downloaded",
    ),
    "hf-hub": (
        lambda: load_backbone(BackboneConfig(source="open_clip", name="hf-hub:owner/clip")),
        "the weights hf-hub:owner/clip could not be downloaded",
    ),
    "hf": (lambda: model.load("hf://owner/tiny"), "hf://owner/tiny could not be downloaded"),
    "hf-name": (lambda: model.load("hf://owner/tiny@v2"), "hf://owner/tiny@v2 could not be"),
    "hf-commit": (lambda: model.load(f"hf://owner/tiny@{'0' * 40}"), "hf://owner/tiny@0000"),
}


@pytest.mark.parametrize(("load", "begins"), MISSING.values(), ids=MISSING.keys())
def test_what_is_not_cached_is_refused_at_once_with_three_ways_out(
    load: Callable[[], object], begins: str, offline: Path
) -> None:
    with pytest.raises(CheckpointError) as no:
        load()
    text = str(no.value)
    assert text.startswith(begins)
    assert "(the hub can't be reached: " in text
    ways = text.partition("): ")[2]
    assert ways.startswith(("mount them as a file, set its path", "copy the checkpoint's folder"))
    assert "or use a bundled model" in ways
    assert ways.count(",") == 2
    assert "\n" not in text


def test_a_cached_checkpoint_is_loaded_without_a_network(
    offline: Path, tiny_checkpoint: Path, scorer: Scorer
) -> None:
    commit = put_in_cache(offline, "owner/tiny", files_in(tiny_checkpoint))
    for revision in ("", f"@{commit}"):
        loaded = model.load(f"hf://owner/tiny{revision}", device="cpu", dtype="float32")
        found, wanted = (each.score(PICTURE, "a cat") for each in (loaded, scorer))
        # The other one may have been loaded when torch had another number of threads.
        for head in HEADS:
            assert getattr(found, head) == pytest.approx(getattr(wanted, head), abs=1e-6)


def test_a_revision_is_the_one_that_is_loaded(
    offline: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    clip = tiny.random_clip()
    other = tiny.random_network(clip=clip, seed=9)
    save_checkpoint(tmp_path / "v2", tiny.config_of(), other, card="", metrics={}, backbone=clip)
    put_in_cache(offline, "owner/tiny", files_in(tiny_checkpoint))
    commit = put_in_cache(offline, "owner/tiny", files_in(tmp_path / "v2"), revision="v2")
    names = ["owner/tiny", "owner/tiny@v2", f"owner/tiny@{commit}"]
    found = [model.load(f"hf://{n}", device="cpu", dtype="float32").score(PICTURE) for n in names]
    second = model.load(str(tmp_path / "v2"), device="cpu", dtype="float32").score(PICTURE)
    assert found[1:] == [second, second]
    assert found[0].quality != pytest.approx(second.quality, abs=1e-4)


def test_the_hubs_own_variables_choose_the_cache_and_switch_the_network_off(
    tmp_path: Path, tiny_checkpoint: Path, scorer: Scorer
) -> None:
    put_in_cache(tmp_path / "hub", "owner/tiny", files_in(tiny_checkpoint))
    PICTURE.save(tmp_path / "image.png")
    code = (
        "import model; print(model.load('hf://owner/tiny', 'cpu', 'float32')"
        f".score({str(tmp_path / 'image.png')!r}).quality)"
    )
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) == pytest.approx(scorer.score(PICTURE).quality, abs=1e-6)


@pytest.mark.parametrize(
    "files",
    [{SETTINGS: b"{}"}, {WEIGHTS: b"{}"}],
    ids=["no-weights", "no-settings"],
)
def test_a_clip_of_the_hub_that_lacks_a_file_is_refused_and_not_random(
    files: Files, offline: Path
) -> None:
    put_in_cache(offline, "owner/clip", files)
    with pytest.raises(BackboneError, match=r"hf-hub:owner/clip could not be downloaded"):
        load_backbone(BackboneConfig(source="open_clip", name="hf-hub:owner/clip"))


DAMAGE: dict[str, Callable[[Files], object]] = {
    "cut-off": lambda f: f.update({WEIGHTS: f[WEIGHTS][:999]}),
    "empty": lambda f: f.update({WEIGHTS: b""}),
    "no-json": lambda f: f.update({SETTINGS: b"<html>"}),
    "other-settings": lambda f: f.update({SETTINGS: settings_of("agiqa-resnet-quickgelu")}),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_clip_of_the_hub_is_refused_in_one_line(
    damage: Callable[[Files], object], offline: Path
) -> None:
    name = "agiqa-vit-quickgelu"
    files = {SETTINGS: settings_of(name), WEIGHTS: safetensors(random_clip(name))}
    damage(files)
    put_in_cache(offline, "owner/clip", files)
    with pytest.raises(BackboneError, match=r"hf-hub:owner/clip could not be read \(\w") as no:
        load_backbone(BackboneConfig(source="open_clip", name="hf-hub:owner/clip"))
    assert "\n" not in str(no.value)


def test_a_checkpoint_may_hold_weights_for_a_clip_of_the_hub(offline: Path, tmp_path: Path) -> None:
    clip = random_clip("agiqa-vit-quickgelu")
    put_in_cache(offline, "owner/clip", {SETTINGS: settings_of("agiqa-vit-quickgelu")})
    save_file(clip.state_dict(), tmp_path / "backbone.safetensors")
    config = BackboneConfig(source="checkpoint", name="hf-hub:owner/clip")
    loaded = load_backbone(config, tmp_path)
    assert torch.equal(loaded.state_dict()["visual.proj"], clip.state_dict()["visual.proj"])


def test_the_digest_of_a_tags_weights_is_checked(offline: Path, tmp_path: Path) -> None:
    config = of_tag("safe", WEIGHTS)(
        random_clip("agiqa-vit-quickgelu"), "agiqa-vit-quickgelu", tmp_path
    )
    (path,) = offline.rglob(WEIGHTS)
    load_backbone(config.model_copy(update={"sha256": sha256_of(path)}))
    with pytest.raises(BackboneError, match=rf"{WEIGHTS} is not the backbone .*SHA-256 differs"):
        load_backbone(config.model_copy(update={"sha256": "0" * 64}))


@pytest.mark.parametrize(
    "source", [SOURCES[k] for k in ("tag-safetensors", "openai-archive", "openai-state-dict")]
)
def test_weights_trained_with_another_activation_are_refused(
    source: Source, offline: Path, tmp_path: Path
) -> None:
    config = source(random_clip("agiqa-vit"), "agiqa-vit", tmp_path)
    with pytest.raises(
        BackboneError, match=r"QuickGELU.*name the architecture agiqa-vit-quickgelu"
    ):
        load_backbone(config, tmp_path)


def test_openais_weights_in_an_architecture_of_our_own_need_its_quick_gelu(tmp_path: Path) -> None:
    save_openai_archive(build(SMALL), tmp_path / "clip.pt")
    config = BackboneConfig(source="file", path="clip.pt", architecture=SMALL)
    with pytest.raises(BackboneError, match=r"set its quick_gelu$"):
        load_backbone(config, tmp_path)
