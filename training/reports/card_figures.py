"""The figures beside a model card: each head's scores over the opinion scores, and how far the
quality can be taken at its word.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from reporting.document import Figure
from training.evaluation.metrics import fit_logistic
from training.evaluation.results import TARGETS, Report
from training.reports.plots import predicted_against_mos, reliability


def card_figures(reports: Mapping[str, Report]) -> list[Figure]:
    """Of each data set, a scatter plot of every head and the reliability of the quality; their
    names say which.
    """
    figures = []
    for name, report in reports.items():
        suffix = f"-{name}" if len(reports) > 1 else ""
        for head in report.heads:
            predicted = [row[head] for row in report.predictions]
            mos = [row[TARGETS[head]] for row in report.predictions]
            by = [row["generator"] or name for row in report.predictions]
            scatter = predicted_against_mos(predicted, mos, fit_logistic(predicted, mos), by)
            caption = f"{head.capitalize()}: {scatter.caption}"
            figures.append(replace(scatter, name=f"{head}{suffix}", caption=caption))
            if head == "quality":
                plot = reliability(predicted, mos)
                spread = (
                    f"Their standard deviations: scores {np.std(predicted):.3f}, opinions "
                    f"{np.std(mos):.3f}."
                )
                caption = f"{plot.caption} {spread}"
                figures.append(replace(plot, name=f"reliability{suffix}", caption=caption))
    return figures
