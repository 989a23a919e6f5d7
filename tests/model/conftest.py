from collections.abc import Iterator
from pathlib import Path

import open_clip
import pytest
import torch
from torch import nn

import model
from model.methods.clip_agiqa import ClipAgiqa
from model.scorer import Scorer
from model.store.checkpoint import save_checkpoint
from tests.model import tiny


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder with random weights, its backbone inside, in 32 bit."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    clip = tiny.random_clip()
    save_checkpoint(
        folder,
        tiny.config_of(),
        tiny.random_network(clip=clip),
        card="# tiny\n",
        metrics={"srcc": 0.5},
        backbone=clip,
        dtype=torch.float32,
    )
    return folder


@pytest.fixture(scope="session")
def scorer(tiny_checkpoint: Path) -> Scorer:
    return model.load(str(tiny_checkpoint), device="cpu", dtype="float32")


@pytest.fixture
def network() -> ClipAgiqa:
    return tiny.random_network()


@pytest.fixture(scope="session")
def vit_b_32() -> Iterator[nn.Module]:
    """A real architecture with random weights; tests must not change it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield open_clip.create_model("ViT-B-32-quickgelu", pretrained=None).eval()
