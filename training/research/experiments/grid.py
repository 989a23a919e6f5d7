"""What an experiment runs: variants of a recipe, each in several rounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.store.checkpoint import BUNDLED
from training.errors import RecipeError
from training.methods.variant import Variant
from training.recipe import MethodRecipe, validated
from training.settings import merged

Content = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One training run: a variant in a round, in a folder of its own."""

    variant: Variant
    round: int
    recipe: MethodRecipe
    folder: Path


@dataclass(frozen=True)
class Grid:
    """All of an experiment's runs. ``remarks`` say what a reader of the figures must know."""

    kind: str
    base: MethodRecipe
    variants: Sequence[Variant]
    rounds: int
    folder: Path
    content: Content
    remarks: Sequence[str] = ()

    def cells(self) -> list[Cell]:
        """Round by round, so that a first whole table is there early.

        Raises:
            RecipeError: a variant that the method or the backbone refuses; all of them at once.
        """
        cells, faults = [], []
        for number in range(self.rounds):
            for variant in self.variants:
                if variant.rounds is None or number < variant.rounds:
                    try:
                        cells.append(self._cell(variant, number))
                    except RecipeError as error:
                        faults.append(str(error))
        if faults:
            raise RecipeError("\n".join(dict.fromkeys(faults)))
        return cells

    def _cell(self, variant: Variant, number: int) -> Cell:
        folder = self.folder / "cells" / _file_name(variant.name) / f"round-{number}"
        content = merged(self.content, variant.settings)
        split = dict(content.get("split") or {})
        stated = split.get("kind") in {"paper", "official"}
        drawn = {"round": number} if stated else {"seed": self.base.split.seed + number}
        paths = {"out": folder / "checkpoint", "work": folder / "work"}
        paths["features"] = self.folder / "features"  # rounds and variants look at the same images
        own: Content = {
            "name": f"{self.base.name}-{_file_name(variant.name)}-{number}",
            "seed": self.base.seed + number,
            "split": split | drawn,
            "backbone": _absolute(self.base),
            "spare_backbone": True,
            **paths,
        }
        if self.base.crop_policy.kind == "random":
            own["crop_policy"] = merged(
                content.get("crop_policy") or {}, {"seed": self.base.crop_policy.seed + number}
            )
        recipe = validated(content | own, f"{variant.name}, round {number}")
        assert isinstance(recipe, MethodRecipe)
        return Cell(variant, number, recipe, folder)


def _absolute(recipe: MethodRecipe) -> Any:
    """The recipe's backbone, wherever the cells' folders lie."""
    if not isinstance(recipe.backbone, Path):
        return recipe.backbone.model_dump(exclude_none=True)
    bundled = BUNDLED / recipe.backbone
    return bundled if bundled.is_dir() else (recipe.out / recipe.backbone).resolve()


def _file_name(name: str) -> str:
    kept = "".join(c if c.isalnum() or c in ".-" else "-" for c in name.lower())
    return "-".join(filter(None, kept.split("-")))
