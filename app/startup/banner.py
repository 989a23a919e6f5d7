"""What a person reads at the start: what is loaded, where the service is, what to do next."""

from collections.abc import Mapping

from app.catalogue import Models, default_for
from app.device.messages import LoadedModel

_WIDTH = 9


def banner(version: str, address: str, models: Models) -> str:
    """A text of some lines.

    Args:
        version: of agiqa.
        address: URL of the service.
        models: what is loaded, one at least.
    """
    first = next(iter(models))
    lines = [f"agiqa {version} is ready on {first.device} in {first.dtype}", ""]
    lines += [_entry("model", _about(model, models.defaults)) for model in models]
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
