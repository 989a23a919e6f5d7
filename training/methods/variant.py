"""A variant of a recipe: a row of an experiment's table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# The variant whose maps stand beside the full model's in an ablation's report.
VISUAL_ONLY = "visual prompts alone"


@dataclass(frozen=True)
class Variant:
    """One row of the table: ``settings`` over the recipe's, section by section.

    ``setting`` is what the paper's table calls it, ``table`` which of its tables; ``rounds``: how
    many it runs, None as many as asked for. ``group`` tells rows of unlike kinds apart; ``note``
    stands in the row behind the name.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    setting: str = ""
    table: str = ""
    rounds: int | None = None
    group: str = ""
    note: str = ""
