"""What is loaded in the worker, by name, and as the API process needs to know it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.device.messages import LoadedModel
from model.errors import CheckpointError

if TYPE_CHECKING:
    from model.scorer import Scorer


def described(scorer: "Scorer") -> LoadedModel:
    """What the API process needs to know of a scorer."""
    dtype = str(scorer.dtype).removeprefix("torch.")
    return LoadedModel(scorer.config, scorer.planner.policy, str(scorer.device), dtype)


def by_name(sources: Sequence[str], scorers: Sequence["Scorer"]) -> dict[str, "Scorer"]:
    """The scorers by their checkpoints' names.

    Args:
        sources: where each was loaded from, for the message.
        scorers: as many.

    Raises:
        CheckpointError: two have the same name, so that requests could not tell them apart.
    """
    found: dict[str, Scorer] = {}
    origin: dict[str, str] = {}
    for source, scorer in zip(sources, scorers, strict=True):
        name = scorer.config.name
        if name in found:
            raise CheckpointError(
                f"two of the models are named {name!r} ({origin[name]} and {source}): load one of "
                'them, or give one another "name" in its config.json'
            )
        found[name], origin[name] = scorer, source
    return found
