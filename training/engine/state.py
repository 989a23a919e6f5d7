"""A run's state on disk: everything that it needs to go on as if it had not stopped."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.store.files import replacing
from training.engine.history import Epoch
from training.errors import TrainingError


@dataclass
class Progress:
    """How far a run is: finished ``epochs``, their figures, and the best one's number, value and
    weights.
    """

    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float = float("-inf")
    best: dict[str, Tensor] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return len(self.history)

    @property
    def last(self) -> str:
        """The last epoch's figures in words."""
        return "  ".join(f"{key} {value:.4f}" for key, value in self.history[-1].items())


def save_atomically(path: Path, state: Mapping[str, Any]) -> None:
    """``torch.save`` beside ``path``, synced, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        torch.save(dict(state), temporary)


def load_state(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """The state that a run of the same settings left there, on the CPU; None: there is none.

    Raises:
        TrainingError: it is damaged, or belongs to another run.
    """
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        own = state["fingerprint"]
    except Exception as error:
        raise TrainingError(f"{path} is damaged: remove it to begin anew") from error
    if own != fingerprint:
        raise TrainingError(
            f"{path} belongs to other settings, data or backbone: remove it, or set another work"
        )
    return state
