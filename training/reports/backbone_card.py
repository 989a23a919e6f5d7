"""What a backbone of our own says about itself: ``backbone.json`` and a card."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from model.config import Architecture, Provenance
from training.data.wordnet import FETCH
from training.errors import DataError
from training.recipe import BackboneRecipe
from training.reports.card import fill

DESCRIPTION = "backbone.json"


class BackboneDescription(BaseModel):
    """The content of ``backbone.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    architecture: Architecture
    sha256: str
    provenance: Provenance

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads and validates it.

        Raises:
            DataError: missing or unreadable.
        """
        try:
            return cls.model_validate_json(path.read_text())
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path.parent} holds no backbone of ours: train one into it, as agiqa train "
                f"tiny-backbone does, or set backbone to another folder ({error})"
            ) from error


def backbone_card(described: BackboneDescription, recipe: BackboneRecipe) -> str:
    """The text of the backbone's README.md."""
    steps = [
        f"`{stage.name}`: {stage.schedule.epochs} epochs on "
        + ", ".join(f"{name} (x{times})" for name, times in stage.data.items())
        for stage in recipe.stages
    ]
    commands = [described.provenance.command or ""]
    if recipe.words is not None:
        steps.insert(0, f"`words`: {recipe.words.epochs} epochs on WordNet, without an image")
        commands.insert(0, FETCH)
    rebuild = "\n".join(commands)
    stages = "\n".join(f"{number}. {step}" for number, step in enumerate(steps, start=1))
    figures = "\n".join(
        f"- {key}: {value:.3f}" for key, value in described.provenance.metrics.items()
    )
    shares = ", ".join(f"{part} {share:.0%}" for part, share in recipe.split.shares.items())
    return f"""---
license: apache-2.0
library_name: agiqa
tags: [image-quality-assessment, clip]
datasets: [{", ".join(recipe.data)}]
---

# {described.name}

{fill(recipe.about)}

## Training

{stages}

Splits with seed {recipe.split.seed}: {shares}. Only the training parts were trained on.

SRCC on the validation parts, from one window and the whole image each, no prompts tuned:

{figures}

## Rebuild

```
{rebuild}
```
"""
