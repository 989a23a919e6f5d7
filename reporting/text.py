"""Histograms, counts and strangers' words as text, for a terminal."""

from collections.abc import Iterator, Sequence

_BLOCKS, _PLAIN = " ▁▂▃▄▅▆▇█", " .:-=+*#@"
_LONGEST = 40


def counted(number: int, noun: str) -> str:
    """The number with its noun: "1 image", "1,000 images"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    r"""The text with what a terminal would obey instead of showing, ``\x1b`` above all, as its
    escape; line breaks stay.
    """
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def sparkline(counts: Sequence[int], encoding: str | None) -> str:
    """Counts as a row of upright bars, one character each; in ASCII where the encoding lacks the
    blocks. What is not zero is never drawn as zero.
    """
    steps = _BLOCKS if _can_show(_BLOCKS, encoding) else _PLAIN
    most = max(1, *counts)
    return "".join(steps[-(-count * (len(steps) - 1) // most)] for count in counts)


def histogram(counts: Sequence[int], edges: Sequence[float]) -> Iterator[str]:
    """A line for each bin: its left edge, a bar, its count.

    Args:
        counts: of the n bins.
        edges: of the bins; n, or n + 1 with the right one of the last.
    """
    most = max(1, *counts)
    for count, left in zip(counts, edges, strict=False):
        yield f"{left:14.4g} |{'#' * round(_LONGEST * count / most)} {count}"


def _can_show(text: str, encoding: str | None) -> bool:
    try:
        text.encode(encoding or "ascii")
    except (UnicodeError, LookupError):
        return False
    return True
