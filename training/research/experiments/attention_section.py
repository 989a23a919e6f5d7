"""What the full model looks at, beside its visual-only variant: a picture of the papers, in the
report of an ablation.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model.errors import ModelError
from model.preprocess.images import read
from reporting.document import Figure, Section
from training.methods.variant import VISUAL_ONLY
from training.research.experiments.run import Result
from training.research.explain.cam import explain
from training.research.explain.pictures import side_by_side
from training.research.explain.subject import Subject

# Shares of the images, sorted by opinion score, of which one each is shown.
_SHOWN = (0.05, 0.5, 0.95)


def attention_section(results: Sequence[Result], full: Result) -> Section | None:
    """Grad-CAM of both over a bad, a middling and a good test image; None where there is no
    visual-only variant, or a checkpoint is gone or can't be looked into.
    """
    visual_only = [r for r in results if r.variant == VISUAL_ONLY and r.round == full.round]
    if not visual_only:
        return None
    try:
        subjects = [
            (label, Subject.load(result.checkpoint))
            for label, result in ((VISUAL_ONLY, visual_only[0]), ("full model", full))
        ]
    except ModelError:
        return None
    figures = tuple(_figure(subjects, row) for row in _chosen(full) if Path(row).is_file())
    text = (
        "Where the score comes from: Grad-CAM of the tokens that enter the last layer. Each map is "
        "scaled by its own peak, so its strength says nothing between two pictures."
    )
    return Section("What it looks at", text, (), figures) if figures else None


def _chosen(full: Result) -> list[str]:
    rows = sorted(full.report.predictions, key=lambda row: float(row["mos"]))
    positions = np.unique([round(share * (len(rows) - 1)) for share in _SHOWN])
    return [str(rows[place]["path"]) for place in positions]


def _figure(subjects: Sequence[tuple[str, Subject]], path: str) -> Figure:
    image = read(Path(path))
    explained = [(label, explain(subject, image)) for label, subject in subjects]
    scores = ", ".join(f"{label} {found.score:.3f}" for label, found in explained)
    name = Path(path).name
    return Figure(
        f"look-{Path(path).stem}",
        f"{name}: {scores}.",
        side_by_side(image, explained),
        "png",
        f"{name} and, laid over it, Grad-CAM maps of the two models; scores: {scores}.",
    )
