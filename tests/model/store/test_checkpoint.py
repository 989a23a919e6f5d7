"""Checkpoints: what is saved comes back, and what is damaged, unfitting or unsafe is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import model
from model.clip.backbone import load_backbone
from model.clip.weights import sha256_of
from model.config import BackboneConfig, CheckpointConfig, CropPolicy
from model.errors import BackboneError, CheckpointError
from model.methods.clip_agiqa import ClipAgiqaOptions
from model.methods.registry import build_network
from model.store.checkpoint import (
    CONFIG,
    PARAMETERS,
    bundled_names,
    find,
    load_network,
    read_config,
    save_checkpoint,
    standalone,
    without_digests,
    write_config,
)
from tests.model import tiny
from tests.model.clip.test_weights import pickled

BACKBONE = "backbone.safetensors"


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that a test may damage: it knows no digests."""
    copy = Path(shutil.copytree(tiny_checkpoint, tmp_path / "tiny"))
    write_config(copy, without_digests(read_config(copy)))
    return copy


def edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changes))


def edit_tensors(path: Path, edit: Callable[[dict[str, Tensor]], Any]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    edit(tensors)
    save_file(tensors, path)


def assert_same_tensors(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], atol=0, rtol=0)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    clip = tiny.random_clip(seed=5)
    network = tiny.random_network(clip=clip, seed=5)  # every number differs from its start
    saved = {name: p.detach().clone() for name, p in network.trainable_parameters().items()}
    config = tiny.config_of(revision="7", crop_policy=CropPolicy(global_view=True))
    save_checkpoint(
        tmp_path / "new" / "tiny",
        config,
        network,
        card="# card\n",
        metrics={"srcc": 0.5},
        backbone=clip,
        dtype=torch.float32,
    )
    again, loaded = load_network(tmp_path / "new" / "tiny")
    assert without_digests(again) == config
    assert (again.sha256, again.backbone.sha256) == (
        sha256_of(tmp_path / "new" / "tiny" / PARAMETERS),
        sha256_of(tmp_path / "new" / "tiny" / BACKBONE),
    )
    assert_same_tensors({n: p.detach() for n, p in loaded.trainable_parameters().items()}, saved)
    backbone = load_backbone(config.backbone, tmp_path / "new" / "tiny")
    assert_same_tensors(backbone.state_dict(), clip.state_dict())
    assert (tmp_path / "new" / "tiny" / "README.md").read_text() == "# card\n"
    assert json.loads((tmp_path / "new" / "tiny" / "metrics.json").read_text()) == {"srcc": 0.5}


def test_what_is_saved_in_16_bit_comes_back_rounded_once(tmp_path: Path) -> None:
    clip = tiny.random_clip()
    network = tiny.random_network(clip=clip)
    save_checkpoint(tmp_path, tiny.config_of(), network, card="", metrics={}, backbone=clip)
    assert {t.dtype for t in load_file(tmp_path / PARAMETERS).values()} == {torch.float16}
    _, loaded = load_network(tmp_path)
    for name, parameter in loaded.trainable_parameters().items():
        assert parameter.dtype == torch.float32
        torch.testing.assert_close(parameter, network.trainable_parameters()[name].half().float())


def test_a_checkpoint_keeps_its_learned_tensors_only(tiny_checkpoint: Path) -> None:
    names = set(load_file(tiny_checkpoint / PARAMETERS))
    assert names == set(tiny.random_network().trainable_parameters())
    assert not any("visual.transformer" in name for name in names)


def test_a_checkpoint_of_a_tuned_backbone_keeps_nothing_beside_it(tmp_path: Path) -> None:
    clip = tiny.random_clip()
    network = build_network("liqe", clip, {})
    changes = {"method": "liqe", "options": {}, "heads": ("quality",)}
    config = tiny.config_of().model_copy(update=changes)
    save_checkpoint(
        tmp_path, config, network, card="", metrics={}, backbone=clip, dtype=torch.float32
    )
    assert load_file(tmp_path / PARAMETERS) == {}
    _, loaded = load_network(tmp_path)
    assert_same_tensors(dict(loaded.named_parameters()), dict(network.named_parameters()))
    edit_tensors(tmp_path / PARAMETERS, lambda t: t.update(logit_scale=torch.zeros(())))
    write_config(tmp_path, without_digests(config))
    with pytest.raises(CheckpointError, match=r"logit_scale \[\] belongs to another network"):
        load_network(tmp_path)


def test_a_loaded_network_is_ready_to_score_with_its_backbone_frozen(tiny_checkpoint: Path) -> None:
    _, network = load_network(tiny_checkpoint)
    assert not any(module.training for module in network.modules())
    learned = {id(p) for p in network.trainable_parameters().values()}
    assert not any(p.requires_grad for p in network.parameters() if id(p) not in learned)


FAULTS: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "missing": (lambda t: t.pop("quality.visual"), r"quality\.visual \[.*\] is missing"),
    "extra": (
        lambda t: t.update(surplus=torch.zeros(2)),
        r"surplus \[2\] belongs to another network",
    ),
    "misshapen": (
        lambda t: t.update({"consistency.beta": torch.zeros(3)}),
        r"consistency\.beta is \[3\], wanted \[16\]",
    ),
    "transposed": (
        lambda t: t.update({"condition.1.weight": t["condition.1.weight"].T.contiguous()}),
        r"condition\.1\.weight is \[64, 32\], wanted \[32, 64\]",
    ),
}


@pytest.mark.parametrize(("edit", "says"), FAULTS.values(), ids=FAULTS.keys())
def test_a_wrong_learned_tensor_is_named(
    edit: Callable[[dict[str, Tensor]], Any], says: str, folder: Path
) -> None:
    edit_tensors(folder / PARAMETERS, edit)
    with pytest.raises(CheckpointError, match=says):
        load_network(folder)


def test_another_backbone_than_the_one_trained_on_is_refused(folder: Path) -> None:
    backbone = tiny.config_of().backbone
    for digest, fits in ((sha256_of(folder / BACKBONE), True), ("0" * 64, False)):
        claimed = backbone.model_copy(update={"sha256": digest})
        edit_config(folder, backbone=claimed.model_dump(mode="json", exclude_none=True))
        if fits:
            load_network(folder)
        else:
            with pytest.raises(BackboneError, match=r"backbone\.safetensors.*SHA-256 differs"):
                load_network(folder)


def test_a_backbone_that_is_not_there_is_named(folder: Path) -> None:
    (folder / BACKBONE).unlink()
    with pytest.raises(BackboneError, match=r"not found.*backbone\.safetensors"):
        load_network(folder)


def test_one_backbone_file_serves_several_checkpoints(folder: Path) -> None:
    (folder.parent / "shared").mkdir()
    (folder / BACKBONE).rename(folder.parent / "shared" / "clip.safetensors")
    shared = BackboneConfig(
        source="file",
        path="../shared/clip.safetensors",
        architecture=tiny.ARCHITECTURE,
        sha256=sha256_of(folder.parent / "shared" / "clip.safetensors"),
    )
    edit_config(folder, backbone=shared.model_dump(mode="json", exclude_none=True))
    config, _ = load_network(folder)
    assert config.backbone == shared


@pytest.mark.parametrize(
    "content", [None, b"", b"no tensors", b"\xff" * 64], ids=["missing", "empty", "text", "noise"]
)
def test_damaged_parameters_are_a_checkpoint_error(content: bytes | None, folder: Path) -> None:
    (folder / PARAMETERS).unlink()
    if content is not None:
        (folder / PARAMETERS).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{PARAMETERS} is missing or damaged"):
        load_network(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe\x00", b'{"name": "tiny"}'],
    ids=["empty", "cut-off", "list", "no-utf-8", "incomplete"],
)
def test_a_damaged_configuration_is_a_checkpoint_error(content: bytes, folder: Path) -> None:
    (folder / CONFIG).write_bytes(content)
    with pytest.raises(CheckpointError, match="not a valid checkpoint configuration"):
        load_network(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"colour": "blue"},
        {"crop_policy": {"kind": "grid", "strides": 144}},
        {"backbone": {"source": "checkpoint", "name": "ViT-B-32", "url": "http://x"}},
        {"format": 2},
        {"heads": ["beauty"]},
    ],
    ids=["top", "crop-policy", "backbone", "format-of-the-future", "unknown-head"],
)
def test_an_unknown_setting_is_a_checkpoint_error(changes: dict[str, Any], folder: Path) -> None:
    edit_config(folder, **changes)
    with pytest.raises(CheckpointError, match=next(iter(changes))):
        read_config(folder)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"options": {"kontext_length": 8}}, "kontext_length"),
        ({"options": {"context_length": "many"}}, "context_length"),
        (
            {
                "backbone": {
                    "source": "checkpoint",
                    "architecture": {
                        "embed_dim": 16,
                        "vision_cfg": {"widht": 32},
                        "text_cfg": {},
                    },
                }
            },
            "widht",
        ),
        ({"method": "astrology"}, "unknown method 'astrology'; known: clip-agiqa"),
    ],
    ids=["unknown-option", "bad-option", "unknown-architecture-setting", "unknown-method"],
)
def test_an_unknown_setting_of_the_method_or_backbone_is_a_checkpoint_error(
    changes: dict[str, Any], says: str, folder: Path
) -> None:
    edit_config(folder, **changes)
    with pytest.raises(CheckpointError, match=says):
        load_network(folder)


def test_heads_that_the_options_ablate_are_refused(tmp_path: Path) -> None:
    options = tiny.OPTIONS.model_copy(update={"auxiliary_task": False})
    clip = tiny.random_clip()
    network = tiny.random_network(options, clip)
    save_checkpoint(tmp_path, tiny.config_of(options), network, card="", metrics={}, backbone=clip)
    with pytest.raises(CheckpointError, match="alignment"):
        load_network(tmp_path)


def test_a_checkpoint_without_the_auxiliary_task_scores_its_quality(tmp_path: Path) -> None:
    options = tiny.OPTIONS.model_copy(update={"auxiliary_task": False})
    clip = tiny.random_clip()
    network = tiny.random_network(options, clip)
    config = tiny.config_of(options, heads=("quality",))
    save_checkpoint(tmp_path, config, network, card="", metrics={}, backbone=clip)
    score = model.load(str(tmp_path), device="cpu").score(tiny.picture(300, 300), "a cat")
    assert score.quality is not None
    assert (score.alignment, score.consistency) == (None, None)


@pytest.mark.parametrize(
    "settings",
    [
        {"source": "open_clip", "name": "ViT-B-32"},
        {"source": "open_clip", "pretrained": "openai"},
        {"source": "file", "name": "ViT-B-32"},
        {"source": "file", "path": "weights.pt"},
        {"source": "checkpoint"},
        {"source": "moon", "name": "ViT-B-32"},
    ],
    ids=["no-tag", "no-name", "no-path", "no-architecture", "nothing", "unknown-source"],
)
def test_an_incomplete_backbone_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"source|needs"):
        BackboneConfig(**settings)


@pytest.mark.parametrize(
    ("name", "tag", "says"),
    [
        ("ViT-Z-99", "openai", "no architecture 'ViT-Z-99'"),
        ("ViT-B-32", "moon", "no weights 'moon' for ViT-B-32; it has .*openai"),
    ],
    ids=["architecture", "tag"],
)
def test_unknown_open_clip_weights_are_refused_without_a_download(
    name: str, tag: str, says: str
) -> None:
    with pytest.raises(BackboneError, match=says):
        load_backbone(BackboneConfig(source="open_clip", name=name, pretrained=tag))


def test_configurations_can_not_be_changed_after_validation() -> None:
    with pytest.raises(ValueError, match="frozen"):
        tiny.config_of().name = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="context_length"):
        ClipAgiqaOptions(context_length=0)


def test_alone_a_checkpoint_with_its_backbone_inside_is_left_where_it_is(folder: Path) -> None:
    with standalone(folder) as whole:
        assert whole == folder


def test_alone_a_shared_backbone_is_put_into_a_copy_that_goes_again(folder: Path) -> None:
    (folder / BACKBONE).rename(folder.parent / "clip.safetensors")
    digest = sha256_of(folder.parent / "clip.safetensors")
    shared = BackboneConfig(
        source="file", path="../clip.safetensors", architecture=tiny.ARCHITECTURE, sha256=digest
    )
    edit_config(folder, backbone=shared.model_dump(mode="json", exclude_none=True))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with standalone(folder) as whole:
        assert whole.parent != folder.parent
        config, copy = load_network(whole)
        assert (config.backbone.source, config.backbone.path) == ("checkpoint", None)
        _, original = load_network(folder)
        assert_same_tensors(copy.state_dict(), original.state_dict())
    assert not whole.exists()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_find_prefers_a_folder_and_names_what_is_bundled(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find(folder) == folder
    (folder.parent / bundled_names()[0]).mkdir()
    monkeypatch.chdir(folder.parent)
    assert find("tiny") == Path("tiny")
    assert find(bundled_names()[0]).is_absolute()  # a folder without a checkpoint is passed over
    for name in bundled_names():
        assert isinstance(read_config(find(name)), CheckpointConfig)
    with pytest.raises(
        CheckpointError, match=r"give a folder with a config\.json, hf://owner/name"
    ):
        find(folder / "nowhere")


def test_a_malicious_pickle_in_place_of_the_parameters_does_not_run(
    folder: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    pickled(victim, folder / PARAMETERS)
    with pytest.raises(CheckpointError):
        load_network(folder)
    assert not victim.exists()
