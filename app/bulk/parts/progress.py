"""One bar over all units of a run."""

import sys
import time
from typing import Any

from tqdm import tqdm

from app.bulk.progress import Lines

_FORMAT = "{percentage:3.0f}% of {total} units, {remaining} left{postfix}"


class UnitsProgress:
    """How far the units are, with images per second, the time left and how many failed: a bar on a
    terminal, else a line every half minute.
    """

    def __init__(self, units: int, *, quiet: bool, interval: float = 30.0) -> None:
        self.images = self.failed = 0
        self._started = time.monotonic()
        for_logs: dict[str, Any] = {
            "file": Lines(),
            "delay": interval,
            "mininterval": interval,
            "miniters": 0,
        }
        self._bar = tqdm(
            total=units,
            leave=False,
            disable=quiet,
            smoothing=0,
            bar_format=_FORMAT,
            **({"dynamic_ncols": True} if sys.stderr.isatty() else for_logs),
        )

    def count(self, images: int, failed: int) -> None:
        """Counts images that are done."""
        self.images += images
        self.failed += failed
        rate = self.images / max(1e-3, time.monotonic() - self._started)
        text = f"{self.images} images, {rate:.1f} images/s"
        self._bar.set_postfix_str(f"{text}, {self.failed} failed", refresh=False)
        self._bar.update(0)

    def unit(self) -> None:
        """Counts a unit that is done."""
        self._bar.update()

    def close(self) -> None:
        """Takes the bar away."""
        self._bar.close()
