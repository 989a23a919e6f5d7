"""Rivals beside an experiment: the same test images, round by round."""

from collections.abc import Mapping, Sequence

import numpy as np

from reporting.document import Table
from training.data.samples import Sample
from training.evaluation.metrics import difference_interval, plcc, plcc_vqeg, srcc
from training.evaluation.results import Report
from training.research.experiments.run import Result
from training.research.experiments.tables import agreement_cells, spread
from training.research.rivals.rival import Rival, oriented


def rivals_table(
    rivals: Sequence[Rival], results: Sequence[Result], samples: Sequence[Sample], data_set: str
) -> Table:
    """A row for ours and each rival: mean, deviation and median over the rounds, and round 0's SRCC
    of ours less the rival's with its 95 % interval.
    """
    reports = [result.reports[data_set] for result in results]
    tested = {row["path"] for report in reports for row in report.predictions}
    needed = [sample for sample in samples if str(sample.path) in tested]
    rows = [("this method", *agreement_cells(reports), "-")]
    for rival in rivals:
        theirs = oriented(rival, needed)
        scores = {str(sample.path): score for sample, score in zip(needed, theirs, strict=True)}
        rows.append((rival.name, *_spreads(reports, scores), _difference(reports[0], scores)))
    header = ("system", "SRCC", "PLCC", "PLCC fitted", "ours less theirs, round 0")
    return Table(header, tuple(rows), f"Quality on the same test images of {data_set}")


def _spreads(reports: Sequence[Report], scores: Mapping[str, float]) -> list[str]:
    """The rival's figures on the images of our reports."""
    rounds = [_both(report, scores) for report in reports]
    return [spread(metric(*pair) for pair in rounds) for metric in (srcc, plcc, plcc_vqeg)]


def _difference(report: Report, scores: Mapping[str, float]) -> str:
    theirs, mos = _both(report, scores)
    ours = np.array([row["quality"] for row in report.predictions])
    low, high = difference_interval(srcc, ours, theirs, mos, groups=report.image_groups)
    return f"{srcc(ours, mos) - srcc(theirs, mos):+.3f} ({low:+.3f} to {high:+.3f})"


def _both(report: Report, scores: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """The rival's scores and the opinion scores of a report's images."""
    rows = report.predictions
    return np.array([scores[row["path"]] for row in rows]), np.array([row["mos"] for row in rows])
