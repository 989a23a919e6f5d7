"""The README's three commands from nothing to CLIP's own weights, run without a network: the hub's
cache holds random weights in the layout, and under the names, that the hub has.
"""

import os
import re
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save

from app.catalogue import default_models
from app.cli.main import main
from model.clip.backbone import random_open_clip
from model.scorer import Scorer
from tests.documents import ROOT, blocks
from tests.model import tiny
from tests.model.clip.test_sources import WEIGHTS
from tests.model.fake_hub import put_in_cache, use_hub

TEXT = {"width": 16, "layers": 2, "heads": 2}
MINIATURES: dict[str, dict[str, Any]] = {
    "RN50-quickgelu": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16},
    "ViT-B-32-quickgelu": {"image_size": 64, "patch_size": 32, "width": 64, "layers": 2},
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """OpenAI's weights under their names, of networks that are smaller under theirs."""
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    for name, vision in MINIATURES.items():
        settings = {"embed_dim": 16, "quick_gelu": True, "vision_cfg": vision, "text_cfg": TEXT}
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, settings)
        torch.manual_seed(0)
        tiny.shake(clip := random_open_clip(name))
        repository = open_clip.get_pretrained_cfg(name, "openai")["hf_hub"].rstrip("/")
        weights = save({k: v.contiguous() for k, v in clip.state_dict().items()})
        put_in_cache(tmp_path / "cache", repository, {WEIGHTS: weights})
    return tmp_path / "cache"


def test_three_commands_lead_to_clips_own_weights(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del hub
    monkeypatch.chdir(tmp_path)
    (block,) = (b for b in blocks(ROOT / "README.md") if b.needs == "network: CLIP's own weights")
    *assembling, serving = [line.split() for line in block.text.splitlines()[1:]]
    for words in assembling:
        result = CliRunner().invoke(main, words[1:])
        assert result.exit_code == 0, result.output
    assert serving[:2] == ["agiqa", "serve"]
    names = re.findall(r"--model (\S+)", " ".join(serving))
    scorers = Scorer.load_several(names, device="cpu")
    defaults = default_models([scorer.config for scorer in scorers])
    assert defaults == {"/score": "clip-iqa", "/score-agi": "clipscore"}
    assert all(scorer.config.is_sealed for scorer in scorers)
    picture = tiny.picture(200, 150)
    scores = {scorer.config.name: scorer.score(picture, "a cat") for scorer in scorers}
    assert scores["clipscore"].consistency is not None
    assert scores["clip-iqa"].quality is not None
    assert not any("backbone" in file for name in names for file in os.listdir(name))
