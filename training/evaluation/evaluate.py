"""Measures a scorer on a split, image by image, beside the no-image baseline where there is one."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from model.config import CheckpointConfig, Head
from model.pipeline import Pipeline
from model.scorer import Scorer
from model.scores import Score
from training.data.samples import Sample
from training.errors import DataError
from training.evaluation.baseline import predict_baseline
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
from training.evaluation.own_prompt import OtherPrompts, own_prompt_shares, share_beaten
from training.evaluation.results import TARGETS, Accuracy, HeadResult, Report, opinions
from training.splits import leakage
from training.splits.split import Split, draw

# Rounds of the bootstrap; fitting a curve in each takes some ten times as long.
_ROUNDS: Mapping[Metric, int] = {
    srcc: 1000,
    plcc: 1000,
    plcc_vqeg: 100,
    krcc: 1000,
    rmse: 1000,
}


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


def evaluate(scorer: Scorer, parts: Mapping[str, Sequence[Sample]], part: str) -> Report:
    """Scores every image of ``part``, with its prompt where it has one, and compares with the
    opinion scores.
    """
    samples = parts[part]
    train = () if part == "train" else parts.get("train", ())
    scored = _scores(scorer, samples)
    heads: dict[Head, HeadResult] = {}
    for head in scorer.config.heads:
        predicted, mos = [getattr(score, head) for score in scored.own], opinions(samples, head)
        if None in predicted or mos is None:
            continue  # no prompts, or no opinion of the alignment
        heads[head] = _head_result(head, predicted, mos, samples, train)
        if head == "consistency":
            heads[head] = replace(heads[head], permuted_srcc=srcc(scored.permuted, mos))
    return Report(
        part,
        len(samples),
        len({s.group for s in samples}),
        heads,
        _accuracies(train, samples, scored.own),
        [_row(sample, score) for sample, score in zip(samples, scored.own, strict=True)],
        own_prompt_shares(samples, scored.beaten),
    )


def _head_result(
    head: Head,
    predicted: Sequence[float],
    mos: Sequence[float],
    samples: Sequence[Sample],
    train: Sequence[Sample],
) -> HeadResult:
    """``train``: empty where no baseline can be fitted."""
    generators, groups = [s.generator for s in samples], [s.group for s in samples]
    generated = bool(generators[0])
    baseline = predict_baseline(train, samples, TARGETS[head]) if train and generated else None
    return HeadResult(
        **agreement(predicted, mos),
        intervals={
            metric.__name__: interval(metric, predicted, mos, rounds=rounds, groups=groups)
            for metric, rounds in _ROUNDS.items()
        },
        within_generator=dict(within(generators, predicted, mos)) if generated else {},
        baseline=None if baseline is None else srcc(baseline, mos),
    )


def part_of(config: CheckpointConfig, samples: list[Sample], part: str) -> dict[str, list[Sample]]:
    """The parts of ``samples`` that a checkpoint is measured on: those of its split, drawn again;
    "all" of them; or those with prompts or photographs that it has not
    learned from ("unseen").

    Raises:
        DataError: no such part, or no split of these samples.
        LeakError: a part that should be unseen is not: this is no copy of the folder that the split
            was drawn from.
    """
    digests = config.provenance.seen
    if part == "all":
        return {"all": samples}
    if part == "unseen":
        names = {sample.dataset for sample in samples} & set(config.provenance.trained_on)
        if unlisted := names - set(digests):
            raise DataError(
                f"{config.name} does not list what it has seen of {' and '.join(unlisted)}: use "
                "--part test"
            )
        known = {id(sample) for sample in leakage.among(samples, digests)}
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
        leakage.refuse(parts[part], digests, f"the part {part!r}", remedy)
    return parts


@dataclass(frozen=True)
class _Scored:
    """By image: ``own``, the Score with its own prompt; and where there is consistency
    ``permuted``, that with the prompt of some image, which must tell less if the prompt counts, and
    ``beaten``, the share of other prompts whose consistency is lower than the own one's.
    """

    own: list[Score]
    permuted: list[float]
    beaten: list[float]


def _scores(scorer: Scorer, samples: Sequence[Sample]) -> _Scored:
    """Every image's rows are computed once, and reduced with each prompt as the service does."""
    order = np.random.default_rng(0).permutation(len(samples))
    prompted = all(sample.prompt for sample in samples)
    heads = scorer.planner.heads(None, prompted=prompted)
    others = OtherPrompts([sample.prompt for sample in samples])
    scored = _Scored([], [], [])
    files = [(sample.path, sample.prompt if prompted else None) for sample in samples]
    with closing(Pipeline(scorer).compute(files, heads)) as results:
        for i, result in tqdm(results, total=len(files), desc="score", unit="image"):
            if isinstance(result, Exception):
                raise result
            own = scorer.reduce(result.rows, result.layout, files[i][1])
            scored.own.append(own)
            if own.consistency is None:
                continue
            exchanged, *rest = (
                scorer.reduce(result.rows, result.layout, prompt).consistency or 0.0
                for prompt in (samples[order[i]].prompt, *others.of(i, samples[i].prompt))
            )
            scored.permuted.append(exchanged)
            scored.beaten.append(share_beaten(own.consistency, rest))
    return scored


def _labels(kind: str, sample: Sample) -> tuple[str, ...]:
    """The image's scenes or its distortion, as its data set names them; empty: not at all."""
    return sample.scenes if kind == "scene" else tuple(filter(None, (sample.distortion,)))


def _accuracies(
    train: Sequence[Sample], samples: Sequence[Sample], scored: Sequence[Score]
) -> dict[str, Accuracy]:
    """How often the likeliest scene is one of the image's, and the likeliest distortion its own."""
    accuracies = {}
    for kind in ("scene", "distortion"):
        hits = [
            max(guess, key=guess.__getitem__) in labels
            for sample, score in zip(samples, scored, strict=True)
            if (guess := getattr(score, kind)) and (labels := _labels(kind, sample))
        ]
        if hits:
            baseline = _of_commonest(kind, train, samples) if train else None
            accuracies[kind] = Accuracy(float(np.mean(hits)), baseline)
    return accuracies


def _of_commonest(kind: str, train: Sequence[Sample], samples: Sequence[Sample]) -> float:
    """What always naming the commonest label of the training part would reach."""
    ((commonest, _),) = Counter(
        label for sample in train for label in _labels(kind, sample)
    ).most_common(1)
    hits = [commonest in labels for s in samples if (labels := _labels(kind, s))]
    return float(np.mean(hits))


def _row(sample: Sample, score: Score) -> dict[str, Any]:
    names = {"image": sample.path.name, "path": str(sample.path)}
    rated = {"mos": sample.mos, "mos_align": sample.mos_align}
    heads = {head: getattr(score, head) for head in TARGETS}
    about = {"prompt": sample.prompt, "generator": sample.generator, "group": sample.group}
    return {**names, **rated, **heads, **about}
