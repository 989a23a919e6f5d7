"""Measures a scorer on a split, image by image, beside the no-image floor."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from model import images
from model.config import CheckpointConfig
from model.scorer import Scorer
from model.scores import Score
from training import agiqa3k, floor
from training.agiqa3k import Sample
from training.errors import DataError
from training.metrics import agreement, srcc, srcc_interval, within
from training.splits import split_by_group


@dataclass(frozen=True)
class Report:
    """Figures of one model on one part of a split. Keys ``quality_srcc``, ``consistency_plcc``,
    ``floor_...``.
    """

    part: str
    images: int
    prompts: int
    figures: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    within_generator: dict[str, dict[str, float]]
    predictions: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """What ``metrics.json`` holds: everything but the single predictions."""
        return {key: value for key, value in asdict(self).items() if key != "predictions"}


def split_of(config: CheckpointConfig, samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Draws the split again that the checkpoint was trained with.

    Raises:
        DataError: the checkpoint does not say how it was split.
    """
    split = config.provenance.split
    if "shares" not in split:
        raise DataError(
            f"{config.name} does not say how its training data was split; evaluate with --part all"
        )
    return split_by_group(samples, split["shares"], split["seed"])


def evaluate(
    scorer: Scorer, parts: Mapping[str, Sequence[Sample]], part: str, seed: int = 0
) -> Report:
    """Scores every image of ``part`` with its prompt and compares with the opinion scores."""
    samples = parts[part]
    scored, permuted = _scores(scorer, samples, seed)
    targets = {"quality": "mos", "alignment": "mos_align", "consistency": "mos_align"}
    figures: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    inside: dict[str, dict[str, float]] = {}
    for head in scorer.config.heads:
        predicted = [getattr(score, head) for score in scored]
        mos = [getattr(s, targets[head]) for s in samples]
        figures |= {f"{head}_{name}": value for name, value in agreement(predicted, mos).items()}
        intervals[f"{head}_srcc"] = srcc_interval(predicted, mos, seed)
        inside[head] = dict(within([s.generator for s in samples], predicted, mos))
    if "train" in parts and part != "train":
        for head in ("quality", "consistency"):
            guess = floor.predict(parts["train"], samples, targets[head])
            figures[f"floor_{head}_srcc"] = srcc(
                guess, [getattr(s, targets[head]) for s in samples]
            )
    if permuted is not None:
        figures["consistency_srcc_permuted_prompts"] = srcc(
            permuted, [s.mos_align for s in samples]
        )
    rows = [_row(sample, score) for sample, score in zip(samples, scored, strict=True)]
    return Report(
        part, len(samples), len({s.group for s in samples}), figures, intervals, inside, rows
    )


def evaluate_folder(scorer: Scorer, folder: Path, part: str) -> Report:
    """``evaluate`` on AGIQA-3K's folder; ``part`` is a name of the checkpoint's split, or "all"."""
    samples = agiqa3k.read(folder)
    parts = {"all": samples} if part == "all" else split_of(scorer.config, samples)
    if part not in parts:
        raise DataError(
            f"no part {part!r}: the checkpoint's split has {', '.join(parts)}; or ask for all"
        )
    return evaluate(scorer, parts, part)


def _scores(
    scorer: Scorer, samples: Sequence[Sample], seed: int
) -> tuple[list[Score], list[float] | None]:
    """Every image's Score with its own prompt, and its consistency with another image's prompt,
    which must tell less if the prompt counts (None where the method has no consistency).
    """
    order = np.random.default_rng(seed).permutation(len(samples))
    heads = scorer.planner.heads(None, prompted=True)
    scored, permuted = [], []
    for sample, other in zip(tqdm(samples, desc="score", unit="image"), order, strict=True):
        rows = scorer.rows(images.read(sample.path), heads)
        scored.append(scorer.reduce(rows, sample.prompt, heads))
        permuted.append(scorer.reduce(rows, samples[other].prompt, heads).consistency or 0.0)
    return scored, permuted if "consistency" in heads else None


def _row(sample: Sample, score: Score) -> dict[str, Any]:
    heads = {head: getattr(score, head) for head in ("quality", "alignment", "consistency")}
    return {"image": sample.path.name, "mos": sample.mos, "mos_align": sample.mos_align, **heads}
