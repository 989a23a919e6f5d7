"""An evaluation that never was: 60 images of three generators."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from training.evaluation.evaluate import Report
from training.evaluation.metrics import agreement, within

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
    figures = {f"quality_{name}": v for name, v in agreement(quality, mos).items()}
    figures["floor_quality_srcc"] = 0.3
    made = Report(
        "test",
        60,
        20,
        figures,
        {"quality_srcc": (0.85, 0.89)},
        {"quality": dict(within(names, quality, mos))},
        rows,
    )
    return replace(made, **changes)
