"""Rivals beside an experiment: the same test images, round by round."""

from collections.abc import Mapping, Sequence

import numpy as np

from model.config import Head
from reporting.document import Table
from training.data.samples import Sample
from training.evaluation.metrics import difference_interval, plcc, plcc_vqeg, srcc
from training.evaluation.results import TARGETS, Report, opinion
from training.research.experiments.run import Result
from training.research.experiments.tables import agreement_cells, spread
from training.research.rivals.pyiqa_weights import remark
from training.research.rivals.rival import Rival, oriented

_HEADER = ("system", "trained on", "SRCC", "PLCC", "PLCC fitted", "ours less theirs, round 0")


def rivals_tables(
    rivals: Sequence[Rival], results: Sequence[Result], samples: Sequence[Sample], data_set: str
) -> tuple[Table, ...]:
    """For each head that has rivals, a row for ours and each of them: mean, deviation and median
    over the rounds, and round 0's SRCC of ours less the rival's with its 95 % interval. A rival
    that has learned from the data set is marked so.
    """
    reports = [result.reports[data_set] for result in results]
    tested = {row["path"] for report in reports for row in report.predictions}
    needed = [sample for sample in samples if str(sample.path) in tested]
    scores = {rival.name: _by_path(rival, needed) for rival in rivals}
    tables = []
    for head in reports[0].heads:
        own = [rival for rival in rivals if rival.target == opinion(head)]
        rows = [
            (
                rival.name,
                remark(rival.trained_on, data_set),
                *_spreads(reports, scores[rival.name], head),
                _difference(reports[0], scores[rival.name], head),
            )
            for rival in own
        ]
        if own:
            ours = ("this method", "this set", *agreement_cells(reports, head), "-")
            caption = f"{head.capitalize()} on the same test images of {data_set}"
            tables.append(Table(_HEADER, (ours, *rows), caption))
    return tuple(tables)


def _by_path(rival: Rival, samples: Sequence[Sample]) -> dict[str, float]:
    theirs = oriented(rival, samples)
    return {str(sample.path): score for sample, score in zip(samples, theirs, strict=True)}


def _spreads(reports: Sequence[Report], scores: Mapping[str, float], head: Head) -> list[str]:
    """The rival's figures on the images of our reports."""
    rounds = [_both(report, scores, head) for report in reports]
    return [spread(metric(*pair) for pair in rounds) for metric in (srcc, plcc, plcc_vqeg)]


def _difference(report: Report, scores: Mapping[str, float], head: Head) -> str:
    theirs, mos = _both(report, scores, head)
    ours = np.array([row[head] for row in report.predictions])
    low, high = difference_interval(srcc, ours, theirs, mos, groups=report.image_groups)
    return f"{srcc(ours, mos) - srcc(theirs, mos):+.3f} ({low:+.3f} to {high:+.3f})"


def _both(report: Report, scores: Mapping[str, float], head: Head) -> tuple[np.ndarray, np.ndarray]:
    """The rival's scores and the opinion scores of a report's images."""
    rows, target = report.predictions, TARGETS[head]
    return np.array([scores[row["path"]] for row in rows]), np.array([row[target] for row in rows])
