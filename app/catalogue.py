"""The loaded models: which one serves which endpoint, who plans its crops, and its description."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.batching.errors import Loading, UnknownModel
from app.device.messages import LoadedModel
from model.config import CheckpointConfig, CropPolicy, Head

PHOTOGRAPHS, GENERATED = "/score", "/score-agi"
# What tells a model of generated images: it compares an image with its prompt. The better sign
# first.
_SIGNS: tuple[Head, ...] = ("consistency", "alignment")


class Models:
    """What the worker has loaded, in its order; nothing before the worker is up for the first time.

    ``defaults``: endpoint -> name of the model that serves it where the request names none.
    """

    def __init__(self, loaded: Sequence[LoadedModel] = ()) -> None:
        self._by_name = {model.config.name: model for model in loaded}
        self.defaults = default_models([m.config for m in loaded]) if loaded else {}

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[LoadedModel]:
        return iter(self._by_name.values())

    def choose(self, name: str | None, endpoint: str) -> LoadedModel:
        """The loaded model of that name; None: the endpoint's default.

        Raises:
            Loading: none is loaded yet.
            UnknownModel: no such model is loaded.
        """
        if not self._by_name:
            raise Loading
        chosen = self.defaults[endpoint] if name is None else name
        if chosen not in self._by_name:
            loaded = ", ".join(self._by_name)
            raise UnknownModel(f"No model {chosen!r} is loaded; choose one of {loaded}.")
        return self._by_name[chosen]


def default_models(configs: Sequence[CheckpointConfig]) -> dict[str, str]:
    """Name of the model that serves each endpoint where the request names none.

    ``/score-agi``: the first with a consistency head, else with an alignment head; ``/score``: the
    first without either. Where one kind is missing, the first of all stands in for it.
    """
    of_generated = [c for head in _SIGNS for c in configs if head in c.heads]
    of_photographs = [c for c in configs if not set(_SIGNS) & set(c.heads)]
    return {
        PHOTOGRAPHS: (*of_photographs, *configs)[0].name,
        GENERATED: (*of_generated, *configs)[0].name,
    }


def default_for(name: str, defaults: Mapping[str, str]) -> list[str]:
    """The endpoints that the model of that name serves by default."""
    return [endpoint for endpoint, chosen in defaults.items() if chosen == name]


def describe(
    config: CheckpointConfig, policy: CropPolicy, endpoints: Sequence[str]
) -> dict[str, Any]:
    """One model as ``GET /models`` and ``agiqa models`` tell of it.

    Args:
        config: its configuration.
        policy: the crop policy in use.
        endpoints: those that it serves by default.
    """
    metrics = dict(config.provenance.metrics)
    if "quality_srcc" in metrics:
        metrics = {"srcc": metrics["quality_srcc"]} | metrics
    return {
        "name": config.name,
        "revision": config.revision,
        "method": config.method,
        "backbone": config.backbone.name or "own",
        "trained_on": list(
            dict.fromkeys(config.provenance.trained_on + config.provenance.backbone_trained_on)
        ),
        "metrics": metrics,
        "score_range": [config.score_range.low, config.score_range.high],
        "crop_policy": policy.model_dump(),
        "heads": list(config.heads),
        "default_for": list(endpoints),
        "sealed": config.is_sealed,
    }
