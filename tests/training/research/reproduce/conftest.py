from pathlib import Path

import pytest

from tests.training.research.reproduce.miniatures import write_backbone, write_sets


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder; to be read only."""
    return write_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny backbone without training; to be read only."""
    return write_backbone(tmp_path_factory.mktemp("blank") / "backbone")
