"""What a run writes down of itself, and the 16 bits that it keeps of a weight."""

import math
import platform
from collections.abc import Mapping

import torch
from torch import nn

from model.config import Provenance
from training.prepared_data import PreparedData
from training.recipe import BackboneRecipe, MethodRecipe
from training.splits import leakage


def provenance_of(
    recipe: BackboneRecipe | MethodRecipe,
    command: str,
    prepared: PreparedData,
    before: Provenance | None = None,
    metrics: Mapping[str, float] | None = None,
) -> Provenance:
    """Of what was trained on the prepared data, on a backbone that was trained ``before``."""
    before = before or Provenance()
    by = "/".join(dict.fromkeys(data.split_by for data in recipe.sets.values()))
    split = recipe.split.model_dump(exclude_none=True)
    if isinstance(recipe, MethodRecipe) and recipe.judged_by == "test":
        split["protocol"] = "paper"
    groups = {
        name: leakage.digests(sample.group for sample in parts["train"])
        for name, parts in prepared.parts.items()
    }
    return Provenance(
        trained_on=tuple(recipe.data),
        backbone_trained_on=before.trained_on,
        seen=leakage.joined(groups, before.seen),
        split={"by": by, **split},
        metrics=rounded(metrics or {}),
        seed=recipe.seed,
        command="\n".join(filter(None, (before.command, command))),
        versions={
            "torch": torch.__version__.split("+")[0],
            "python": platform.python_version(),
        },
    )


def rounded(figures: Mapping[str, float]) -> dict[str, float]:
    """To four digits; without what is no number, as a correlation of constant scores, since nothing
    was measured there.
    """
    return {name: round(value, 4) for name, value in figures.items() if math.isfinite(value)}


@torch.no_grad()
def round_to_16_bit(module: nn.Module, only: set[str] | None = None) -> None:
    """Rounds weights to what the checkpoint stores, so that what is measured is what ships."""
    for name, value in module.state_dict(keep_vars=True).items():
        if value.is_floating_point() and (only is None or name in only):
            value.copy_(value.half())
