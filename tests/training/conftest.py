from pathlib import Path

import pytest
import torch

from tests.training.runs import with_backbone, write_data
from training.evaluation import evaluate


@pytest.fixture(autouse=True)
def _few_bootstrap_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals take most of the time of a run in miniature."""
    few = dict.fromkeys(evaluate._ROUNDS, 20)
    monkeypatch.setattr(evaluate, "_ROUNDS", few)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both sets in miniature; to be read only."""
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def pretrained(data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a miniature backbone that has seen both; to be read only."""
    torch.set_num_threads(1)
    return with_backbone(data, tmp_path_factory.mktemp("pretrained"))
