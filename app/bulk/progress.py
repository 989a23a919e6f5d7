"""How far it is: a bar on a terminal, else a line now and then."""

import io
import sys

import click
from tqdm import tqdm


class Lines(io.TextIOBase):
    """Standard error for what tqdm writes, without the carriage returns that a log can't show."""

    def write(self, text: str) -> int:
        if line := " ".join(text.split()):
            click.echo(line, err=True)
        return len(text)


class Progress:
    """Images that are done, with the rate, the time left and how many failed: a bar that is gone in
    the end where standard error is a terminal, else a line for logs.

    Args:
        total: images.
        quiet: nothing is written.
        to_terminal: the rows are written to the terminal; a bar would run through them.
        interval: seconds between two lines.
    """

    def __init__(
        self, total: int, *, quiet: bool, to_terminal: bool, interval: float = 30.0
    ) -> None:
        self._failed = 0
        on_terminal = sys.stderr.isatty()
        for_logs = {
            "file": Lines(),
            "delay": interval,
            "mininterval": interval,
            "miniters": 1,  # else tqdm's monitor adds lines of its own
            "smoothing": 0,
            "bar_format": "{n} of {total} images, {rate_noinv_fmt}, {remaining} left{postfix}",
        }
        self._bar = tqdm(
            total=total,
            unit=" images",
            leave=False,
            disable=quiet or (on_terminal and to_terminal),
            **({"dynamic_ncols": True} if on_terminal else for_logs),
        )

    def step(self, *, failed: bool) -> None:
        """Counts an image that is done."""
        self._failed += failed
        if failed:
            self._bar.set_postfix_str(f"{self._failed} failed", refresh=False)
        self._bar.update()

    def close(self) -> None:
        """Takes the bar away."""
        self._bar.close()


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
