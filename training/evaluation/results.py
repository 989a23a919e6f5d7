"""What an evaluation measured, head by head, and the flat names that files give it.

``metrics.json``, the provenance in ``config.json``, results of experiments and the history of a run
name a figure by head and metric: ``quality_srcc``, ``consistency_plcc_vqeg``; the no-image baseline
is ``floor_quality_srcc`` there. Those names are made and taken apart here alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, get_args

import numpy as np

from model.config import Head
from training.data.samples import Sample
from training.evaluation.metrics import AGREEMENT

Interval = tuple[float, float]
# SRCC by data set and head, as it is measured after an epoch.
SrccBySet = Mapping[str, Mapping[str, float]]

# The opinion score that each head is compared with: a field of ``Sample``, a column of predictions.
TARGETS: Mapping[str, str] = {
    "quality": "mos",
    "alignment": "mos_align",
    "consistency": "mos_align",
}
# Says of figures under the recipe's ``protocol: paper`` what they are worth.
PUBLISHED_PROTOCOL = (
    "the epoch was chosen on the test part, as the paper's code does, so these figures are too "
    "good; they compare with published ones only."
)

# In what share of pairs of an image and another prompt the consistency with the image's own prompt
# is the higher one; of all images, and of those that people found well aligned.
OWN_PROMPT = "own_prompt_beats_another"
OWN_PROMPT_ALIGNED = f"{OWN_PROMPT}_aligned"

_METRICS = tuple(metric.__name__ for metric in AGREEMENT)
# An SRCC that permuted prompts lower by less does not rest on the prompt.
_PROMPT_EFFECT = 0.02


@dataclass(frozen=True)
class HeadResult:
    """One head's agreement with its opinion score: correlations, and errors on the scale [0, 1].

    ``plcc`` and ``rmse`` are of the raw scores; ``_vqeg``: after the fitted logistic.

    Args:
        intervals: 95 % bootstrap intervals over the groups (prompts, references), by metric.
        within_generator: SRCC inside each generator; empty for photographs.
        baseline: SRCC of the no-image baseline for the same opinion.
        permuted_srcc: of a consistency, with the prompts permuted among the images.
    """

    srcc: float
    plcc: float
    plcc_vqeg: float
    krcc: float
    rmse: float
    rmse_vqeg: float
    intervals: dict[str, Interval] = field(default_factory=dict)
    within_generator: dict[str, float] = field(default_factory=dict)
    baseline: float | None = None
    permuted_srcc: float | None = None

    @property
    def srcc_interval(self) -> Interval:
        """95 % interval of the SRCC; the SRCC itself twice where none was measured."""
        return self.intervals.get("srcc", (self.srcc, self.srcc))

    @property
    def prompt_effect(self) -> float | None:
        """By how much permuting the prompts lowers the SRCC; None where that was not measured."""
        return None if self.permuted_srcc is None else self.srcc - self.permuted_srcc

    @property
    def rests_on_prompt(self) -> bool:
        """Whether permuting the prompts lowers the SRCC enough to count."""
        return self.prompt_effect is not None and self.prompt_effect > _PROMPT_EFFECT


@dataclass(frozen=True)
class Accuracy:
    """How often the likeliest label is one of the image's. ``baseline``: what always naming the
    commonest label of the training part would reach; None without a training part.
    """

    share: float
    baseline: float | None = None


@dataclass(frozen=True)
class Share:
    """A share in [0, 1] with its 95 % bootstrap interval over the groups."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class Report:
    """What was measured of one model on one ``part`` of a split.

    ``groups``: how many prompts (reference images, photographs) the images have. ``accuracies``: of
    "scene" and "distortion". ``predictions``: a row per image, of its opinion scores and its own.
    ``own_prompt``: shares by ``OWN_PROMPT`` and ``OWN_PROMPT_ALIGNED``, of what tells consistency.
    """

    part: str
    images: int
    groups: int
    heads: dict[Head, HeadResult]
    accuracies: dict[str, Accuracy] = field(default_factory=dict)
    predictions: list[dict[str, Any]] = field(default_factory=list)
    own_prompt: dict[str, Share] = field(default_factory=dict)

    @property
    def image_groups(self) -> list[str]:
        """The group of each prediction's image; the image itself where none is known."""
        return [str(row.get("group") or row["image"]) for row in self.predictions]

    @property
    def flat_figures(self) -> dict[str, float]:
        """Every figure by its flat name."""
        heads, accuracies = self.heads.items(), self.accuracies.items()
        optional = {
            **{_baseline_name(head): result.baseline for head, result in heads},
            **{f"{head}_srcc_permuted_prompts": result.permuted_srcc for head, result in heads},
            **{f"{label}_accuracy": accuracy.share for label, accuracy in accuracies},
            **{f"floor_{label}_accuracy": accuracy.baseline for label, accuracy in accuracies},
        }
        return {
            **{f"{head}_{name}": getattr(r, name) for head, r in heads for name in _METRICS},
            **{name: value for name, value in optional.items() if value is not None},
            **{name: share.value for name, share in self.own_prompt.items()},
        }

    @property
    def flat_intervals(self) -> dict[str, Interval]:
        """The 95 % intervals by the flat names of their figures."""
        of_heads = {
            f"{head}_{name}": interval
            for head, result in self.heads.items()
            for name, interval in result.intervals.items()
        }
        return of_heads | {name: share.interval for name, share in self.own_prompt.items()}

    def as_dict(self) -> dict[str, Any]:
        """What ``metrics.json`` holds: everything but the single predictions."""
        inside = {head: r.within_generator for head, r in self.heads.items() if r.within_generator}
        return {
            "part": self.part,
            "images": self.images,
            "groups": self.groups,
            "figures": self.flat_figures,
            "intervals": self.flat_intervals,
            "within_generator": inside,
        }

    @classmethod
    def from_dict(
        cls, content: Mapping[str, Any], predictions: Iterable[dict[str, Any]] = ()
    ) -> Self:
        """The inverse of ``as_dict``.

        Raises:
            KeyError: a head's figures are not all there.
        """
        figures = content["figures"]
        return cls(
            content["part"],
            content["images"],
            content["groups"],
            {head: _head(head, content) for head in get_args(Head) if f"{head}_srcc" in figures},
            {
                label: Accuracy(figures[name], figures.get(f"floor_{name}"))
                for label in ("scene", "distortion")
                if (name := f"{label}_accuracy") in figures
            },
            list(predictions),
            {
                name: Share(figures[name], tuple(content["intervals"][name]))
                for name in (OWN_PROMPT, OWN_PROMPT_ALIGNED)
                if name in figures
            },
        )


def _head(head: Head, content: Mapping[str, Any]) -> HeadResult:
    figures, intervals = content["figures"], content["intervals"]
    names = {name: f"{head}_{name}" for name in _METRICS}
    return HeadResult(
        **{name: figures[flat] for name, flat in names.items()},
        intervals={n: tuple(intervals[flat]) for n, flat in names.items() if flat in intervals},
        within_generator=content["within_generator"].get(head, {}),
        baseline=figures.get(_baseline_name(head)),
        permuted_srcc=figures.get(f"{head}_srcc_permuted_prompts"),
    )


def _baseline_name(head: Head) -> str:
    """Heads that are compared with one opinion have one baseline."""
    return f"floor_{'quality' if opinion(head) == 'quality' else 'consistency'}_srcc"


def opinion(head: Head) -> str:
    """What people rated, and the head is compared with: "quality" or "alignment"."""
    return "quality" if TARGETS[head] == "mos" else "alignment"


def opinions(samples: Sequence[Sample], head: str) -> list[float] | None:
    """The opinion score of each sample that the head is compared with; None where one lacks it."""
    scores = [getattr(sample, TARGETS[head]) for sample in samples]
    return None if None in scores else scores


def flat_figures(reports: Mapping[str, Report]) -> dict[str, float]:
    """The figures of reports by data set: of one set under their flat names; of several, with the
    set's name behind each and the mean of the quality's SRCC in front.
    """
    if len(reports) == 1:
        return next(iter(reports.values())).flat_figures
    mean = float(np.mean([report.heads["quality"].srcc for report in reports.values()]))
    each = {
        f"{key}_{name}": value
        for name, report in reports.items()
        for key, value in report.flat_figures.items()
    }
    return {"quality_srcc": mean, **each}


def flat_srcc(measured: SrccBySet) -> dict[str, float]:
    """What was measured after an epoch, by flat name: ``quality_srcc_AGIQA-3K`` ..."""
    return {
        f"{head}_srcc_{data_set}": value
        for data_set, heads in measured.items()
        for head, value in heads.items()
    }
