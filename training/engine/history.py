"""What was measured after each epoch: a CSV and TensorBoard's curves."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from torch.utils.tensorboard import SummaryWriter

from model.store.files import write_atomically

Epoch = dict[str, float]


def write_csv(path: Path, history: Sequence[Epoch]) -> None:
    """One row per epoch, one column per loss term and figure; atomically."""
    columns = list(dict.fromkeys(key for epoch in history for key in epoch))
    text = io.StringIO()
    table = csv.DictWriter(text, ["epoch", *columns], lineterminator="\n")
    table.writeheader()
    for number, epoch in enumerate(history, start=1):
        table.writerow({"epoch": number, **{k: f"{v:.6f}" for k, v in epoch.items()}})
    write_atomically(path, text.getvalue().encode())


class Curves:
    """TensorBoard's curves in a folder. The first epoch that is added drops what a killed run wrote
    of it and later ones.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: SummaryWriter | None = None

    def add(self, epoch: int, figures: Epoch) -> None:
        """Adds an epoch, for TensorBoard to see at once."""
        # One file for all epochs: TensorBoard mixes up the order of several of the same second.
        if self._writer is None:
            self._writer = SummaryWriter(str(self.folder), purge_step=epoch)
        for name, value in figures.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
