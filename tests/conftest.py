"""Fixtures that several test folders share."""

from pathlib import Path

import pytest

BUNDLED = Path(__file__).parent.parent / "model" / "checkpoints" / "tiny-clip-agiqa"


@pytest.fixture(scope="session")
def bundled() -> Path:
    """The folder of the bundled generated-image model."""
    assert (BUNDLED / "config.json").is_file(), "the bundled checkpoint is missing"
    return BUNDLED
