"""The models that ship: their size, their figures, and that both are what the card says."""

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

import model
from model.clip.towers import VisionTower
from model.clip.weights import sha256_of
from model.scorer import Scorer
from model.store.checkpoint import BUNDLED, bundled_names, find, read_config
from tests.figures import AGIQA_3K, LIVE_CHALLENGE, assert_figures
from training.data import datasets
from training.evaluation.evaluate import evaluate, part_of
from training.sampling.degradations import DEGRADATIONS

ROOT = Path(__file__).parent.parent
# What each was trained on, where that lies, and the least quality SRCC that may ship.
MODELS = {
    "tiny-clip-agiqa": ("AGIQA-3K", AGIQA_3K, 0.70),
    "tiny-mpiqe": ("LIVE-Challenge", LIVE_CHALLENGE, 0.60),
}
every_model = pytest.mark.parametrize("name", MODELS)


def test_the_models_that_ship_are_these() -> None:
    assert bundled_names() == sorted(MODELS)


@every_model
def test_every_bundled_model_loads_and_tells_its_figures(name: str) -> None:
    config = read_config(find(name))
    assert config.name == name
    assert config.provenance.command
    assert config.provenance.trained_on == (MODELS[name][0],)
    assert set(config.provenance.backbone_trained_on) == {data for data, *_ in MODELS.values()}
    assert model.load(name, device="cpu").config == config


def test_the_weights_of_the_bundled_models_and_their_backbone_are_at_most_32_mb() -> None:
    sizes = [path.stat().st_size for path in BUNDLED.rglob("*.safetensors")]
    assert len(sizes) == 1 + len(MODELS)
    assert sum(sizes) <= 32e6


@every_model
def test_a_bundled_model_holds_its_target_and_says_so_everywhere(name: str) -> None:
    folder = find(name)
    stated = read_config(folder).provenance.metrics
    srcc = stated["quality_srcc"]
    assert srcc >= MODELS[name][2]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert round(metrics["figures"]["quality_srcc"], 4) == srcc
    for text in ((folder / "README.md").read_text(), (ROOT / "README.md").read_text()):
        assert f"{srcc:.3f}" in text
        if "floor_quality_srcc" in stated:
            assert f"{stated['floor_quality_srcc']:.3f}" in text


def test_the_readme_tells_what_every_kind_of_degradation_does() -> None:
    rows = (ROOT / "README.md").read_text().splitlines()
    degraded = [
        json.loads((find(name) / "metrics.json").read_text())["degraded"]
        for name in ("tiny-mpiqe", "tiny-clip-agiqa")
    ]
    for kind in DEGRADATIONS:
        cells = [f"{n:.3f}" for d in degraded for n in (d["srcc"][kind], d["quality"][kind][-1])]
        assert f"| {kind} | {' | '.join(cells)} |" in rows


@every_model
def test_the_card_of_a_bundled_model_has_a_header_that_the_hub_reads(name: str) -> None:
    data: Any = huggingface_hub.ModelCard((find(name) / "README.md").read_text()).data
    assert (data.license, data.library_name) == ("apache-2.0", "agiqa")
    assert data.datasets == [MODELS[name][0]]
    assert read_config(find(name)).method in data.tags


@every_model
def test_the_backbone_is_the_one_that_the_prompts_were_tuned_on(name: str) -> None:
    backbone = read_config(find(name)).backbone
    assert backbone.path is not None
    assert sha256_of(find(name) / backbone.path) == backbone.sha256


def test_the_bundled_models_stand_on_one_backbone_in_memory() -> None:
    towers = [
        next(m for m in scorer._net.modules() if isinstance(m, VisionTower)).visual  # type: ignore[attr-defined]
        for scorer in Scorer.load_several(list(MODELS), device="cpu")
    ]
    assert towers[0] is towers[1]


@pytest.mark.slow
@pytest.mark.figures
@every_model
def test_the_figures_of_the_card_are_measured_again(name: str) -> None:
    data = MODELS[name][1]
    if not data.is_dir():
        pytest.skip(f"{data.name} is not here (set AGIQA_3K, LIVE_CHALLENGE)")
    scorer = model.load(name, device="cpu")
    report = evaluate(scorer, part_of(scorer.config, datasets.read(data), "test"), "test")
    figures = report.flat_figures
    stated = read_config(find(name)).provenance.metrics
    # A card of an older version has fewer.
    assert_figures(stated, {figure: figures[figure] for figure in stated})
    permuted = stated.get("consistency_srcc_permuted_prompts")
    card = (find(name) / "README.md").read_text()
    assert permuted is None or f"{permuted:.3f}" in card
