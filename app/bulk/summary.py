"""What came of a run, in figures: counts, each head's distribution, the worst images."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from app.bulk.progress import duration
from app.bulk.rows import Row
from model.config import HEADS, Head
from reporting.text import printable, sparkline

BINS = 20


@dataclass(frozen=True, slots=True)
class Distribution:
    """Of one head's scores; ``bins`` counts them in ``BINS`` equal parts of [0, 1]."""

    count: int
    mean: float
    median: float
    p5: float
    p95: float
    bins: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """Of all rows of a run, or of OUT; ``heads`` are in the order of ``HEADS``."""

    images: int
    failures: Mapping[str, int] = field(default_factory=dict)
    heads: Mapping[Head, Distribution] = field(default_factory=dict)

    @property
    def scored(self) -> int:
        """How many images have scores."""
        return self.images - sum(self.failures.values())

    @property
    def leading_head(self) -> Head | None:
        """The head that images are sorted by: quality where there is one."""
        return next(iter(self.heads), None)


def summarise(rows: Sequence[Row]) -> Summary:
    """The figures of rows."""
    codes = Counter(row["code"] for row in rows if row["code"])
    values = {head: [r[head] for r in rows if r[head] is not None] for head in HEADS}
    heads = {head: distribution(scores) for head, scores in values.items() if scores}
    return Summary(len(rows), dict(codes.most_common()), heads)


def distribution(values: Sequence[float]) -> Distribution:
    """Of at least one value in [0, 1]."""
    p5, median, p95 = (float(value) for value in np.percentile(values, (5, 50, 95)))
    bins, _ = np.histogram(values, BINS, (0, 1))
    return Distribution(
        len(values),
        float(np.mean(values)),
        median,
        p5,
        p95,
        tuple(map(int, bins)),
    )


def ranked(rows: Sequence[Row], head: Head) -> list[Row]:
    """Rows with that head's score, the worst first; ties in the order of their paths."""
    return sorted((r for r in rows if r[head] is not None), key=lambda r: (r[head], r["path"]))


def as_text(rows: Sequence[Row], seconds: float, new: int, *, worst: int) -> str:
    """The summary as text for a terminal.

    Args:
        rows: all of OUT.
        seconds: that this run took to score.
        new: how many of the rows are this run's.
        worst: how many of the worst images are listed.
    """
    summary = summarise(rows)
    parts = [_counts(summary, seconds, new)]
    if head := summary.leading_head:
        parts.append(_figures(summary))
        lowest = ranked(rows, head)[: min(worst, summary.heads[head].count)]
        lines = [f"  {row[head]:.3f}  {_on_a_line(row['path'])}" for row in lowest]
        if lines:
            parts.append("\n".join([f"worst {head}:", *lines]))
    return "\n\n".join(parts)


def _on_a_line(path: str) -> str:
    return printable(path).replace("\n", r"\n")


def _counts(summary: Summary, seconds: float, new: int) -> str:
    speed = f"{new} images in {duration(seconds)}"
    if new and seconds:
        speed += f" ({new / seconds:.1f} images/s)"
    if new != summary.images:
        speed += f"; {summary.images} with those of before"
    codes = ", ".join(f"{count} {code}" for code, count in summary.failures.items())
    return f"{speed}\nfailed: {codes}" if codes else speed


def _figures(summary: Summary) -> str:
    encoding = getattr(sys.stderr, "encoding", None)
    lines = [f"{'':11}   mean  median      p5     p95   0{' ' * (BINS - 2)}1"]
    for head, d in summary.heads.items():
        figures = "  ".join(f"{value:6.3f}" for value in (d.mean, d.median, d.p5, d.p95))
        lines.append(f"{head:11} {figures}   {sparkline(d.bins, encoding)}".rstrip())
    return "\n".join(lines)
