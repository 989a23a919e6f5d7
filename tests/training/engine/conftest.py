import shutil
from pathlib import Path

import pytest


@pytest.fixture
def folder(pretrained: Path, tmp_path: Path) -> Path:
    """A folder of one's own with the backbone in it."""
    shutil.copytree(pretrained / "backbone", tmp_path / "backbone")
    return tmp_path
