"""How far it is: a bar on a terminal, else a line now and then."""

import sys
import time
from collections.abc import Callable
from typing import Protocol

import click
from tqdm import tqdm

_EVERY = 30.0  # seconds between lines


class Progress(Protocol):
    """Told of every image that is done."""

    def step(self, *, failed: bool) -> None:
        """One more is done."""

    def close(self) -> None:
        """No more will be done."""


class Bar:
    """A bar with images per second and the time left; it is gone once all is done."""

    def __init__(self, total: int) -> None:
        self._bar = tqdm(total=total, unit="image", leave=False, dynamic_ncols=True, smoothing=0.1)
        self._failed = 0

    def step(self, *, failed: bool) -> None:
        """One more is done."""
        self._failed += failed
        if failed:
            self._bar.set_postfix_str(f"{self._failed} failed", refresh=False)
        self._bar.update()

    def close(self) -> None:
        """Takes the bar away."""
        self._bar.close()


class Lines:
    """A line on standard error every half minute, for logs."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock = total, clock
        self._started = self._told = clock()
        self._done = self._failed = 0

    def step(self, *, failed: bool) -> None:
        """One more is done."""
        self._done += 1
        self._failed += failed
        now = self._clock()
        if now - self._told >= _EVERY and self._done < self._total:
            self._told = now
            rate = self._done / (now - self._started)
            left = duration((self._total - self._done) / rate)
            bad = f", {self._failed} failed" if self._failed else ""
            told = f"{self._done} of {self._total} images, {rate:.1f} images/s, {left} left{bad}"
            click.echo(told, err=True)

    def close(self) -> None:
        """Nothing is left to do."""


class Silent(Lines):
    """Says nothing."""

    def step(self, *, failed: bool) -> None:
        """One more is done."""


def progress(total: int, *, quiet: bool, to_terminal: bool) -> Progress:
    """What fits the place: a bar where standard error is a terminal that the rows (``to_terminal``)
    are not written to.
    """
    if quiet:
        return Silent(total)
    if sys.stderr.isatty():
        return Silent(total) if to_terminal else Bar(total)
    return Lines(total)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
