"""Measures a scorer on a split, image by image, beside the no-image floor where there is one."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from model.config import CheckpointConfig
from model.pipeline import Pipeline
from model.scorer import Scorer
from model.scores import Score
from training.data import seen
from training.data.protocol import Split, draw
from training.data.samples import Sample
from training.errors import DataError
from training.evaluation import floor
from training.evaluation.metrics import (
    Metric,
    agreement,
    interval,
    krcc,
    plcc,
    plcc_vqeg,
    rmse,
    srcc,
    within,
)

# The opinion score that each head is compared with.
TARGETS = {"quality": "mos", "alignment": "mos_align", "consistency": "mos_align"}

# Rounds of the bootstrap; fitting a curve in each takes some ten times as long.
_ROUNDS: Mapping[Metric, int] = {
    srcc: 1000,
    plcc: 1000,
    plcc_vqeg: 100,
    krcc: 1000,
    rmse: 1000,
}


@dataclass(frozen=True)
class Report:
    """Figures of one model on one part of a split. Keys ``quality_srcc``, ``consistency_plcc``,
    ``floor_...``, ``scene_accuracy`` ...

    ``groups``: how many prompts (reference images, photographs) the images have.
    """

    part: str
    images: int
    groups: int
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
        DataError: the checkpoint does not say how it was split, or was trained on another set.
    """
    split = Split.of_provenance(config.provenance.split)
    if split is None:
        raise DataError(
            f"{config.name} does not say how its training data was split; evaluate with --part all"
        )
    if strangers := {s.dataset for s in samples} - set(config.provenance.trained_on):
        raise DataError(
            f"{config.name} was not trained on {', '.join(strangers)}, so it has no split of it; "
            "evaluate with --part all"
        )
    return draw(split, samples)


def evaluate(
    scorer: Scorer, parts: Mapping[str, Sequence[Sample]], part: str, seed: int = 0
) -> Report:
    """Scores every image of ``part``, with its prompt where it has one, and compares with the
    opinion scores.
    """
    samples = parts[part]
    scored, permuted = _scores(scorer, samples, seed)
    figures: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    inside: dict[str, dict[str, float]] = {}
    for head in scorer.config.heads:
        predicted = [getattr(score, head) for score in scored]
        mos = [getattr(s, TARGETS[head]) for s in samples]
        if None in predicted or None in mos:
            continue  # no prompts, or no opinion of the alignment
        figures |= {f"{head}_{name}": value for name, value in agreement(predicted, mos).items()}
        intervals |= {
            f"{head}_{metric.__name__}": interval(metric, predicted, mos, seed, rounds)
            for metric, rounds in _ROUNDS.items()
        }
        if samples[0].generator:
            inside[head] = dict(within([s.generator for s in samples], predicted, mos))
    if "train" in parts and part != "train" and samples[0].generator:
        for target in dict.fromkeys(TARGETS[head] for head in inside):
            guess = floor.predict(parts["train"], samples, target)
            head = "quality" if target == "mos" else "consistency"
            figures[f"floor_{head}_srcc"] = srcc(guess, [getattr(s, target) for s in samples])
    if permuted is not None:
        aligned = [s.mos_align for s in samples if s.mos_align is not None]
        figures["consistency_srcc_permuted_prompts"] = srcc(permuted, aligned)
    figures |= _accuracies(samples, scored)
    if "train" in parts and part != "train":
        figures |= _commonest(parts["train"], samples, figures)
    rows = [_row(sample, score) for sample, score in zip(samples, scored, strict=True)]
    groups = len({s.group for s in samples})
    return Report(part, len(samples), groups, figures, intervals, inside, rows)


def part_of(config: CheckpointConfig, samples: list[Sample], part: str) -> dict[str, list[Sample]]:
    """The parts of ``samples`` that a checkpoint is measured on: those of its split, drawn again;
    "all" of them; or those with prompts or photographs that it has not
    learned from ("unseen").

    Raises:
        DataError: no such part, or no split of these samples.
        LeakError: a part that should be unseen is not: this is no copy of the folder that the split
            was drawn from.
    """
    told = config.provenance.seen
    if part == "all":
        return {"all": samples}
    if part == "unseen":
        known = {id(sample) for sample in seen.among(samples, told)}
        left = [sample for sample in samples if id(sample) not in known]
        if not left:
            raise DataError(f"{config.name} was trained on every prompt or image here")
        return {"unseen": left}
    parts = split_of(config, samples)
    if part not in parts:
        raise DataError(
            f"no part {part!r}: the checkpoint's split has {', '.join(parts)}; or ask for all, or "
            "unseen"
        )
    if part in {"validation", "test"}:
        remedy = "the folder holds other images than the split was drawn from; use --part unseen"
        seen.refuse(parts[part], told, f"the part {part!r}", remedy)
    return parts


def _scores(
    scorer: Scorer, samples: Sequence[Sample], seed: int
) -> tuple[list[Score], list[float] | None]:
    """Every image's Score with its own prompt, and its consistency with another image's prompt,
    which must tell less if the prompt counts (None where there is no consistency).
    """
    order = np.random.default_rng(seed).permutation(len(samples))
    prompted = all(sample.prompt for sample in samples)
    heads = scorer.planner.heads(None, prompted=prompted)
    compared = "consistency" in heads and all(s.mos_align is not None for s in samples)
    scored, permuted = [], []
    files = [(sample.path, sample.prompt if prompted else None) for sample in samples]
    with closing(Pipeline(scorer).compute(files, heads)) as results:
        for i, result in tqdm(results, total=len(files), desc="score", unit="image"):
            if isinstance(result, Exception):
                raise result
            scored.append(scorer.reduce(result.rows, result.layout, files[i][1]))
            if compared:
                other = scorer.reduce(result.rows, result.layout, samples[order[i]].prompt)
                permuted.append(other.consistency or 0.0)
    return scored, permuted if compared else None


def _told(kind: str, sample: Sample) -> tuple[str, ...]:
    """The image's scenes or its distortion, as its data set tells them; empty: not at all."""
    return sample.scenes if kind == "scene" else tuple(filter(None, (sample.distortion,)))


def _commonest(
    train: Sequence[Sample], samples: Sequence[Sample], figures: Mapping[str, float]
) -> dict[str, float]:
    """What always naming the commonest label of the training part would reach, beside each measured
    accuracy.
    """
    floors = {}
    for kind in ("scene", "distortion"):
        if f"{kind}_accuracy" in figures:
            labels = Counter(label for sample in train for label in _told(kind, sample))
            ((label, _),) = labels.most_common(1)
            hits = [label in told for s in samples if (told := _told(kind, s))]
            floors[f"floor_{kind}_accuracy"] = float(np.mean(hits))
    return floors


def _accuracies(samples: Sequence[Sample], scored: Sequence[Score]) -> dict[str, float]:
    """How often the likeliest scene is one of the image's, and the likeliest distortion its own."""
    figures = {}
    for kind in ("scene", "distortion"):
        hits = []
        for sample, score in zip(samples, scored, strict=True):
            told = _told(kind, sample)
            guess: dict[str, float] | None = getattr(score, kind)
            if guess and told:
                hits.append(max(guess, key=guess.__getitem__) in told)
        if hits:
            figures[f"{kind}_accuracy"] = float(np.mean(hits))
    return figures


def _row(sample: Sample, score: Score) -> dict[str, Any]:
    heads = {head: getattr(score, head) for head in TARGETS}
    told = {"mos": sample.mos, "mos_align": sample.mos_align}
    about = {"prompt": sample.prompt, "generator": sample.generator, "group": sample.group}
    return {"image": sample.path.name, "path": str(sample.path), **told, **heads, **about}
