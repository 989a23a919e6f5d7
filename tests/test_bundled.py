"""The models that ship: their size, their figures, and that both are what the card says."""

import json
import os
from pathlib import Path

import pytest

import model
from model.backbone import sha256_of
from model.checkpoint import bundled_names, find, read_config
from training.evaluate import evaluate_folder

ROOT = Path(__file__).parent.parent
AGIQA_3K = Path(os.environ.get("AGIQA_3K", ROOT.parent / "shared" / "data" / "AGIQA-3K"))


def test_every_bundled_model_loads_and_tells_its_figures() -> None:
    assert bundled_names() == ["tiny-clip-agiqa"]
    config = read_config(find("tiny-clip-agiqa"))
    assert config.provenance.command
    assert config.provenance.trained_on == ("AGIQA-3K",)
    assert model.load("tiny-clip-agiqa", device="cpu").config == config


def test_the_bundled_model_with_its_backbone_is_at_most_24_mb(bundled: Path) -> None:
    files = [*bundled.iterdir(), *(bundled.parent / "tiny-backbone").iterdir()]
    assert sum(file.stat().st_size for file in files) <= 24e6


def test_the_bundled_model_holds_its_target_and_says_so_everywhere(bundled: Path) -> None:
    config = read_config(bundled)
    srcc = config.provenance.metrics["quality_srcc"]
    assert srcc >= 0.70
    metrics = json.loads((bundled / "metrics.json").read_text())
    assert round(metrics["figures"]["quality_srcc"], 4) == srcc
    for text in (bundled / "README.md", ROOT / "README.md"):
        assert f"{srcc:.3f}" in text.read_text()
        assert f"{config.provenance.metrics['floor_quality_srcc']:.3f}" in text.read_text()


def test_the_backbone_is_the_one_that_the_prompts_were_tuned_on(bundled: Path) -> None:
    backbone = read_config(bundled).backbone
    assert backbone.path is not None
    assert sha256_of(bundled / backbone.path) == backbone.sha256


@pytest.mark.slow
@pytest.mark.skipif(not AGIQA_3K.is_dir(), reason="AGIQA-3K is not here (set AGIQA_3K)")
def test_the_figures_of_the_card_are_measured_again(bundled: Path) -> None:
    scorer = model.load(str(bundled), device="cpu", dtype="float32")
    report = evaluate_folder(scorer, AGIQA_3K, "test")
    stated = read_config(bundled).provenance.metrics
    for key, value in report.figures.items():
        assert value == pytest.approx(stated[key], abs=2e-3), key
    card = (bundled / "README.md").read_text()
    assert f"{report.figures['consistency_srcc_permuted_prompts']:.2f}" in card
