"""What a person reads at the start: what is loaded, where the service is, what to do next."""

from collections.abc import Iterable, Mapping

from app.catalogue import default_for
from app.messages import LoadedModel

_WIDTH = 9


def greeting(
    version: str, address: str, models: Iterable[LoadedModel], defaults: Mapping[str, str]
) -> str:
    """Several lines of text.

    Args:
        version: of agiqa.
        address: URL of the service.
        models: what is loaded.
        defaults: endpoint -> name of the model that serves it by default.
    """
    loaded = list(models)
    where = f"{loaded[0].device} in {loaded[0].dtype}"
    lines = [f"agiqa {version} is ready on {where}", ""]
    lines += [_entry("model", _about(model, defaults)) for model in loaded]
    lines += [
        "",
        _entry("page", f"{address}/"),
        _entry("API", f"{address}/docs"),
        _entry("metrics", f"{address}/metrics"),
        "",
        _entry("try", f"curl -F image=@photo.jpg {address}/score"),
        _entry("", f"curl -F image=@generated.jpg -F prompt='a red fox' {address}/score-agi"),
        _entry("", f"agiqa score FOLDER --server {address} -o scores.csv"),
        _entry("stop", "Ctrl-C; what was admitted is finished first"),
    ]
    return "\n".join(lines)


def _entry(name: str, text: str) -> str:
    return f"  {name:<{_WIDTH}}{text}"


def _about(model: LoadedModel, defaults: Mapping[str, str]) -> str:
    config = model.config
    srcc = config.provenance.metrics.get("quality_srcc")
    parts = [
        f"{config.name} ({config.method}, revision {config.revision})",
        " and ".join(default_for(config.name, defaults)) or f"?model={config.name}",
        "SRCC not measured" if srcc is None else f"SRCC of quality {srcc:.3f}",
    ]
    return ", ".join(parts)
