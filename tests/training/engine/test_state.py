from pathlib import Path

import pytest
import torch

from training.engine.state import Progress, load_state, save_atomically
from training.errors import TrainingError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "stage.state.pt"


def test_a_state_comes_back_and_leaves_nothing_beside_it(path: Path) -> None:
    save_atomically(path, {"fingerprint": "a", "weights": {"w": torch.tensor([1.5])}})
    state = load_state(path, "a")
    assert state is not None
    assert state["weights"]["w"].tolist() == [1.5]
    assert list(path.parent.iterdir()) == [path]


def test_without_a_state_there_is_none(path: Path) -> None:
    assert load_state(path, "a") is None


@pytest.mark.parametrize("content", [b"", b"no state", None], ids=["empty", "other", "cut"])
def test_a_damaged_state_is_named_with_what_to_do(path: Path, content: bytes | None) -> None:
    save_atomically(path, {"fingerprint": "a", "w": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:2000] if content is None else content)
    with pytest.raises(TrainingError, match=r"stage\.state\.pt is damaged: remove it"):
        load_state(path, "a")


def test_a_state_without_a_fingerprint_is_damaged(path: Path) -> None:
    save_atomically(path, {"w": torch.zeros(1)})
    with pytest.raises(TrainingError, match="is damaged"):
        load_state(path, "a")


def test_a_state_of_other_settings_is_refused(path: Path) -> None:
    save_atomically(path, {"fingerprint": "a"})
    with pytest.raises(TrainingError, match="other settings, data or backbone: remove it"):
        load_state(path, "b")


def test_a_state_that_can_not_be_written_leaves_the_one_before(path: Path) -> None:
    save_atomically(path, {"fingerprint": "a", "epoch": 1})

    class Unwritable:
        def __reduce__(self) -> str:
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        save_atomically(path, {"fingerprint": "a", "epoch": Unwritable()})
    assert load_state(path, "a") == {"fingerprint": "a", "epoch": 1}


def test_progress_counts_finished_epochs() -> None:
    assert Progress().epochs == 0
    assert Progress(history=[{"loss": 1.0}, {"loss": 0.5}]).epochs == 2
