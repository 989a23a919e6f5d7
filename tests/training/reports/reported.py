"""An evaluation that never was: 60 images of three generators."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from training.evaluation.metrics import agreement, within
from training.evaluation.results import HeadResult, Report

GENERATORS = ("attn<gan>", "dall-e", "sd")


def report(folder: Path | None = None, **changes: Any) -> Report:
    """With images of ``folder`` as paths, which need not be there."""
    rng = np.random.default_rng(3)
    mos = rng.uniform(0, 1, 60)
    quality = np.clip(mos + rng.normal(0, 0.1, 60), 0, 1)
    names = [GENERATORS[n % 3] for n in range(60)]
    rows: list[dict[str, Any]] = [
        {
            "image": f"{n:02}.jpg",
            "mos": float(mos[n]),
            "mos_align": None,
            "quality": float(quality[n]),
            "alignment": None,
            "consistency": None,
            "generator": names[n],
        }
        for n in range(60)
    ]
    if folder:
        rows = [{**row, "path": str(folder / row["image"])} for row in rows]
    head = HeadResult(
        **agreement(quality, mos),
        intervals={"srcc": (0.85, 0.89)},
        within_generator=dict(within(names, quality, mos)),
        baseline=0.3,
    )
    return replace(Report("test", 60, 20, {"quality": head}, {}, rows), **changes)


def with_quality(**changes: Any) -> Report:
    """The same with another result of the quality."""
    made = report()
    return replace(made, heads={"quality": replace(made.heads["quality"], **changes)})
