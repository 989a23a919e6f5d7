"""What ``agiqa data check`` says about a folder: sentences, bars of text, and a plot."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from reporting.text import histogram
from training.data.check import Findings
from training.data.dataset import DataSet
from training.data.samples import Sample

# Of files that are wrong, how many are named; of sizes and generators, how many are counted.
_NAMED = 5
_BINS = 20
_SCORES: dict[str, Callable[[Sample], float | None]] = {
    "quality": lambda sample: sample.mos,
    "alignment": lambda sample: sample.mos_align,
}


def lines(found: Findings) -> Iterator[str]:
    """The report, line by line."""
    yield _row("data set", f"{found.data.name}, in {found.folder}")
    yield _row("listed", _listed(found))
    yield _row("missing", _named(found, found.missing))
    reasons = [f"{_short(found, look.path)}: {look.broken}" for look in found.broken]
    yield _row("unreadable", _some(reasons))
    yield _row("listed twice", _named(found, found.listed_again))
    yield _row("same files", _twins(found))
    yield _row("sizes", _counts(Counter({f"{w} x {h}": n for (w, h), n in found.sizes.items()})))
    yield from _contents(found)
    for name, scores in _scores(found).items():
        yield from _distribution(name, scores, found.data)
    wrong = "not usable as it lies there: see missing, unreadable, listed twice"
    yield "usable: every listed image is there and can be read" if found.usable else wrong


def plot(found: Findings, file: Path) -> None:
    """The histogram of each kind of score, as a picture.

    Raises:
        OSError, ValueError: it can't be written, or not in this format.
    """
    scores = _scores(found)
    figure = Figure(figsize=(4.5 * len(scores), 3.2), layout="constrained")
    for axes, (name, values) in zip(
        figure.subplots(1, len(scores), squeeze=False)[0], scores.items(), strict=True
    ):
        counts, edges = _bins(values, found.data)
        axes.stairs(counts, edges, fill=True)
        axes.set_xlabel(f"{name}: {_scale(found.data)}")
        axes.set_ylabel("images")
    figure.suptitle(f"{found.data.name}, {len(found.samples)} images")
    figure.savefig(file, dpi=150)


def _listed(found: Findings) -> str:
    listed, whole = len(found.samples), found.data.images
    distributed = f" of {whole} as distributed" if whole and whole != listed else ""
    return f"{listed} rated images{distributed}"


def _contents(found: Findings) -> Iterator[str]:
    samples = found.samples
    groups = Counter(sample.group for sample in samples)
    if groups:
        few, many = min(groups.values()), max(groups.values())
        each = f"{few}" if few == many else f"{few} to {many}"
        yield _row("groups", f"{len(groups)} by {found.data.split_by}, images in each: {each}")
    prompts = {sample.prompt for sample in samples if sample.prompt}
    yield _row("prompts", str(len(prompts) or "none"))
    yield _row("generators", _counts(Counter(s.source for s in samples if s.source)))
    yield _row("own split", _counts(Counter(s.part for s in samples if s.part)))
    scenes = sum(bool(sample.scenes) for sample in samples)
    distortions = sum(bool(sample.distortion) for sample in samples)
    yield _row("labels", f"scenes of {scenes} images, a distortion of {distortions}")


def _twins(found: Findings) -> str:
    if not found.twins:
        return "none"
    files = sum(map(len, found.twins))
    torn = [" = ".join(_short(found, p) for p in paths) for paths in found.torn_twins]
    count = f"{files} files are {len(found.twins)} pictures"
    return f"{count}; a split may tear apart {_some(torn)}" if torn else count


def _scores(found: Findings) -> dict[str, list[float]]:
    """The scores of each kind that the set has, on its own scale."""
    scores = {
        name: [_own(found.data, score) for s in found.samples if (score := read(s)) is not None]
        for name, read in _SCORES.items()
    }
    return {name: values for name, values in scores.items() if values}


def _own(data: DataSet, unit: float) -> float:
    low, high = data.scale
    return low + (high - low) * (1 - unit if data.lower_better else unit)


def _scale(data: DataSet) -> str:
    direction = "low" if data.lower_better else "high"
    low, high = data.scale
    return f"scale {low:g} to {high:g}, {direction} = better"


def _bins(scores: Sequence[float], data: DataSet) -> tuple[np.ndarray, np.ndarray]:
    return np.histogram(np.clip(scores, *data.scale), bins=_BINS, range=data.scale)


def _distribution(name: str, scores: Sequence[float], data: DataSet) -> Iterator[str]:
    spread = f"{min(scores):.4g} to {max(scores):.4g}, mean {np.mean(scores):.4g}"
    yield _row(name, f"{len(scores)} scores from {spread}; {_scale(data)}")
    counts, edges = _bins(scores, data)
    yield from histogram(counts.tolist(), edges.tolist())


def _named(found: Findings, paths: Iterable[Path]) -> str:
    return _some([_short(found, path) for path in paths])


def _short(found: Findings, path: Path) -> str:
    return str(path.relative_to(found.folder) if path.is_relative_to(found.folder) else path)


def _some(names: Sequence[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)}: {', '.join(names[:_NAMED])}{more}"


def _counts(counted: Counter[str]) -> str:
    shown = [f"{name} ({count})" for name, count in counted.most_common(2 * _NAMED)]
    rest = len(counted) - len(shown)
    return ", ".join([*shown, *([f"{rest} more"] if rest else [])]) or "none"


def _row(label: str, text: str) -> str:
    return f"{label:13} {text}"
