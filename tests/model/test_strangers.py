"""Checkpoints of strangers: no download, no size, no file of this machine that they may choose."""

import json
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import model
from model.clip.backbone import WEIGHTS, load_backbone
from model.clip.weights import read_weights, sha256_of
from model.config import Architecture, BackboneConfig, CheckpointConfig, CropPolicy
from model.errors import BackboneError, CheckpointError
from model.hub import FILES
from model.methods.registry import METHODS, network_type
from model.seal import seal
from model.store.checkpoint import CONFIG, read_config, standalone, write_config
from tests.model import tiny
from tests.model.clip.test_sources import offline  # noqa: F401 - a fixture
from tests.model.clip.test_weights import PLAIN, save_openai_archive
from tests.model.fake_hub import files_in, put_in_cache

SECRET = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n"


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint as version 0.5 wrote it, without digests, in a folder of its own."""
    place = tmp_path / "theirs" / "tiny"
    place.mkdir(parents=True)
    for name, content in files_in(tiny_checkpoint).items():
        (place / name).write_bytes(content)
    write_config(place, tiny.config_of())
    return place


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the machine's owner."""
    path = tmp_path / "id_rsa"
    path.write_text(SECRET)
    return path


def absolute(folder: Path, secret: Path) -> None:
    point_at(folder, str(secret))


def upwards(folder: Path, secret: Path) -> None:
    point_at(folder, "../../id_rsa")


def by_a_link(folder: Path, secret: Path) -> None:
    (folder / "clip.pt").symlink_to(secret)
    point_at(folder, "clip.pt")


def by_a_linked_folder(folder: Path, secret: Path) -> None:
    (folder / "sub").symlink_to("../..")
    point_at(folder, "sub/id_rsa")


def as_its_own(folder: Path, secret: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(secret)


def point_at(folder: Path, path: str) -> None:
    backbone = BackboneConfig(source="file", path=path, architecture=tiny.ARCHITECTURE)
    write_config(folder, tiny.config_of(backbone=backbone))


every_way_out = pytest.mark.parametrize(
    "way", [absolute, upwards, by_a_link, by_a_linked_folder, as_its_own], ids=lambda f: f.__name__
)


@every_way_out
def test_a_backbone_elsewhere_is_neither_read_nor_published(
    way: Callable[[Path, Path], None], folder: Path, secret: Path
) -> None:
    way(folder, secret)
    for use in (lambda: model.load(str(folder), device="cpu"), lambda: put_together(folder)):
        with pytest.raises(CheckpointError, match="its backbone lies outside of its folder") as no:
            use()
        assert "BEGIN" not in str(no.value)


def put_together(folder: Path) -> list[Path]:
    with standalone(folder) as whole:
        return list(whole.iterdir())


@every_way_out
def test_sealing_does_not_take_in_what_is_no_backbone_and_shows_nothing_of_it(
    way: Callable[[Path, Path], None], folder: Path, secret: Path
) -> None:
    way(folder, secret)
    with pytest.raises(CheckpointError, match="found a text file, wanted") as no:
        seal(folder)
    assert "BEGIN" not in str(no.value)


def test_a_backbone_elsewhere_is_read_where_the_configuration_knows_its_digest(
    folder: Path,
) -> None:
    (folder / WEIGHTS).rename(folder.parent / "clip.safetensors")
    point_at(folder, "../clip.safetensors")
    with pytest.raises(CheckpointError, match="if you trust the checkpoint, seal it"):
        model.load(str(folder))
    seal(folder)
    assert read_config(folder).backbone.sha256 == sha256_of(folder.parent / "clip.safetensors")
    model.load(str(folder), device="cpu")
    (folder.parent / "clip.safetensors").write_text(SECRET)
    with pytest.raises(BackboneError, match="SHA-256 differs"):
        model.load(str(folder))
    with pytest.raises(BackboneError, match="SHA-256 differs"):
        put_together(folder)


@pytest.mark.parametrize("name", [name for name in FILES if name not in {CONFIG, WEIGHTS}])
def test_a_link_to_somewhere_else_is_not_published(name: str, folder: Path, secret: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(secret)
    with pytest.raises(CheckpointError, match=rf"{name} is a link out of its folder"):
        put_together(folder)


def test_a_configuration_that_is_another_file_is_not_shown(folder: Path, secret: Path) -> None:
    (folder / CONFIG).unlink()
    (folder / CONFIG).symlink_to(secret)
    with pytest.raises(CheckpointError, match=r"not a valid checkpoint configuration") as no:
        read_config(folder)
    assert "BEGIN" not in str(no.value)
    assert "\n" not in str(no.value)


def test_a_configuration_beyond_all_size_is_not_read(folder: Path) -> None:
    with (folder / CONFIG).open("wb") as file:
        file.truncate(2**34)  # sparse
    with pytest.raises(CheckpointError, match="it has 17179869184 bytes"):
        read_config(folder)


@pytest.mark.parametrize(
    ("vision", "text", "says"),
    [
        ({"timm_model_name": "hf-hub:x/y"}, {}, "timm_model_name would have other weights"),
        ({"timm_model_name": "resnet50", "timm_model_pretrained": True}, {}, "other weights"),
        ({"timm_model_name": "resnet50"}, {}, "'timm_model_name' is no setting"),
        ({}, {"hf_model_name": "x/y"}, "hf_model_name would have another network"),
        ({"layers": 10**9}, {}, "layers must be a number from 1 to 64"),
        ({"layers": [1, 2, 3, 10**9]}, {}, "layers must be a number from 1 to 64"),
        ({"layers": 0}, {}, "layers must be"),
        ({"layers": "12"}, {}, "layers must be"),
        ({"width": 10**6}, {}, "width must be"),
        ({"image_size": 10**6}, {}, "image_size must be"),
        ({}, {"vocab_size": 10**10}, "vocab_size must be"),
        ({}, {"context_length": 10**6}, "context_length must be"),
        ({"mlp_ratio": 1e9}, {}, "mlp_ratio must be"),
        ({"widht": 3}, {}, "'widht' is no setting"),
    ],
)
def test_an_architecture_asks_for_no_download_and_no_size_beyond_reason(
    vision: dict[str, Any], text: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        Architecture(
            embed_dim=16,
            vision_cfg=tiny.ARCHITECTURE.vision_cfg | vision,
            text_cfg=tiny.ARCHITECTURE.text_cfg | text,
        )


def test_an_architecture_that_the_file_can_not_fill_takes_no_memory(folder: Path) -> None:
    huge = {"layers": 64, "width": 8192, "head_width": 8192}
    architecture = Architecture(embed_dim=16, vision_cfg=huge, text_cfg={"width": 16, "heads": 2})
    backbone = BackboneConfig(source="checkpoint", architecture=architecture)
    write_config(folder, tiny.config_of(backbone=backbone))
    with pytest.raises(BackboneError, match="more numbers than backbone"):
        model.load(str(folder))


@pytest.mark.parametrize(
    "settings",
    [
        {"vision_cfg": {"timm_model_name": "hf-hub:x/y", "timm_model_pretrained": True}},
        {"vision_cfg": {}, "text_cfg": {"hf_model_name": "x/y"}},
        {"vision_cfg": {"layers": 10**9}},
    ],
    ids=["timm", "transformers", "size"],
)
def test_the_settings_of_a_clip_of_the_hub_are_held_to_the_same(
    settings: dict[str, Any],
    offline: Path,  # noqa: F811
) -> None:
    content = json.dumps({"model_cfg": {"embed_dim": 16} | settings}).encode()
    put_in_cache(offline, "owner/clip", {"open_clip_config.json": content})
    with pytest.raises(BackboneError, match=r"could not be read \(its open_clip_config\.json: "):
        load_backbone(BackboneConfig(source="open_clip", name="hf-hub:owner/clip"))


@pytest.mark.parametrize(
    "changes",
    [{"size": 10**6}, {"stride": 10**9}, {"max_side": 10**9}, {"max_windows": 10**6}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_crop_policy_stays_within_reason(changes: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        CropPolicy(**changes)


def test_no_option_of_a_method_is_a_number_without_an_end() -> None:
    for method in METHODS:
        options = network_type(method).options_type
        for name, field in options.model_fields.items():
            if field.annotation is int:
                with pytest.raises(ValidationError):
                    options.model_validate({name: 10**9})
                assert field.default <= 1024, (method, name)


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "", "x" * 201])
def test_a_name_can_be_shown(name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        CheckpointConfig.model_validate(tiny.config_of().model_dump() | {"name": name})


def stretched(path: Path) -> None:
    """A few bytes that show as four thousand million numbers."""
    torch.save({"visual.proj": torch.zeros(1, dtype=torch.float16).expand(2**16, 2**16)}, path)


def bomb(path: Path) -> None:
    """A torch file whose tensor is packed, a thousand to one."""
    torch.save({"visual.proj": torch.zeros(2**25)}, path)
    repack(path)


def script_bomb(path: Path) -> None:
    save_openai_archive(tiny.random_clip(PLAIN), path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/999", bytes(2**27))


def repack(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("write", [stretched, bomb, script_bomb], ids=lambda f: f.__name__)
def test_a_small_file_does_not_become_large_in_memory(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path / "clip.pt")
    assert (tmp_path / "clip.pt").stat().st_size < 2**22
    with pytest.raises(
        BackboneError, match=r"claims more numbers than it holds|cut off or damaged"
    ):
        read_weights(tmp_path / "clip.pt")


def test_what_a_branch_names_today_is_logged_with_the_way_to_pin_it(
    offline: Path,  # noqa: F811
    tiny_checkpoint: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    commit = put_in_cache(offline, "owner/tiny", files_in(tiny_checkpoint))
    with caplog.at_level(logging.WARNING, "model.hub"):
        model.load("hf://owner/tiny", device="cpu")
        model.load(f"hf://owner/tiny@{commit}", device="cpu")
    (message,) = [r.getMessage() for r in caplog.records if r.name == "model.hub"]
    assert (
        message
        == f"hf://owner/tiny is now hf://owner/tiny@{commit}; name that to get the same again"
    )
