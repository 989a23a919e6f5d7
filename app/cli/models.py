"""The commands about checkpoints: which there are, and making and publishing them."""

import json
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import click

from app.cli.errors import as_messages
from model.config import CROP_POLICIES
from model.errors import ModelError

CLIENT_KEY = "AGIQA_API_KEY"
_SECONDS = 10.0
# Heading of a column -> its cell of a model as ``GET /models`` describes it.
_COLUMNS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "name": itemgetter("name"),
    "method": itemgetter("method"),
    "backbone": itemgetter("backbone"),
    "heads": lambda model: ", ".join(model["heads"]),
    "trained on": lambda model: ", ".join(model["trained_on"]),
    "quality SRCC": lambda model: _srcc(model["metrics"].get("quality_srcc")),
    "default for": lambda model: " ".join(model["default_for"]),
    "sealed": lambda model: "yes" if model.get("sealed") else "no",
}
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.option("--server", metavar="URL", help="Ask this running service what it has loaded.")
@click.option("--api-key", envvar=CLIENT_KEY, help=f"The service's key  [{CLIENT_KEY}]")
@click.option("--json", "as_json", is_flag=True, help="Print all that is known, as JSON.")
def models(server: str | None, api_key: str | None, *, as_json: bool) -> None:
    """List the bundled models, or those of a running service, with their measured figures."""
    described = _of_service(server, api_key) if server else _bundled()
    if as_json:
        click.echo(json.dumps({"models": described}, indent=2))
    else:
        click.echo(table([list(_COLUMNS), *map(_row, described)]))


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, path_type=Path))
@click.argument("url", metavar="hf://OWNER/NAME")
@click.option("--private", is_flag=True, help="Only you can see it.")
def push(folder: Path, url: str, *, private: bool) -> None:
    """Upload a checkpoint to the Hugging Face hub."""
    from model.store.publish import push as upload

    with as_messages(ModelError):
        page = upload(folder, url, private=private)
    click.echo(page)


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, path_type=Path))
def seal(folder: Path) -> None:
    """Write into a checkpoint which files it has and what they score: loading it tests both."""
    from model.seal import seal as write_digests

    with as_messages(ModelError):
        config = write_digests(folder)
    scores = config.self_test.scores if config.self_test else {}
    listed = ", ".join(f"{head} {value:.4f}" for head, value in scores.items())
    click.echo(f"sealed {folder} ({config.name}): {listed}")


@click.command()
@click.argument("method")
@click.option("--out", required=True, type=_NEW_FOLDER, help="Folder of the new checkpoint.")
@click.option("--architecture", required=True, metavar="NAME", help="open_clip's name.")
@click.option("--weights", type=_FILE, help="File of weights; it is copied.")
@click.option("--pretrained", metavar="TAG", help="Instead: open_clip's tag of its weights.")
@click.option(
    "--pair",
    "pairs",
    multiple=True,
    metavar="NAME=POSITIVE|NEGATIVE",
    help="Two texts to compare, as quality='Good photo.|Bad photo.'; repeat for several.",
)
@click.option("--crop-policy", type=click.Choice(CROP_POLICIES), help="[the method's own]")
@click.option("--name", help="The model's name  [the folder's]")
def assemble(
    method: str,
    out: Path,
    weights: Path | None,
    pretrained: str | None,
    pairs: Sequence[str],
    **options: Any,
) -> None:
    """Make a checkpoint of a method that needs no training: clip-iqa and clipscore from any model
    of open_clip, or liqe from its weights.
    """
    own = {"pairs": read_pairs(pairs)} if pairs else {}

    from model.seal import seal as write_digests
    from model.store.assemble import assemble as put_together

    with as_messages(ModelError):
        config = put_together(
            method, out, weights=weights, pretrained=pretrained, options=own, **options
        )
        write_digests(out)
    click.echo(f"wrote {out} ({config.name}); serve it with: agiqa serve --model {out}")


@click.command("import-official")
@click.option("--backbone", required=True, type=_FILE, help="CLIP's weights.")
@click.option("--aux", required=True, type=_FILE, help="Auxiliary (alignment) task.")
@click.option("--tar", required=True, type=_FILE, help="Main (quality) task.")
@click.option("--out", required=True, type=_NEW_FOLDER, help="Folder of the new checkpoint.")
@click.option(
    "--architecture", default="ViT-B-32-quickgelu", show_default=True, help="open_clip's name."
)
@click.option("--trained-on", metavar="SET", help="AGIQA-3K or AIGCIQA2023, if that is known.")
@click.option("--round", type=int, help="Published round, 0 to 9, of --trained-on: its test part.")
def import_official(backbone: Path, aux: Path, tar: Path, out: Path, **options: Any) -> None:
    """Turn published CLIP-AGIQA weights into a checkpoint."""
    from model.seal import seal as write_digests
    from model.store.official import import_official as convert

    with as_messages(ModelError):
        convert(backbone, aux, tar, out, **options)
        write_digests(out)
    click.echo(f"wrote {out}; serve it with: agiqa serve --model {out}")


def read_pairs(pairs: Sequence[str]) -> dict[str, list[str]]:
    """``NAME=POSITIVE|NEGATIVE`` as {name: [positive, negative]}.

    Raises:
        click.BadParameter: one of another form, or a name given twice.
    """
    read: dict[str, list[str]] = {}
    for pair in pairs:
        name, _, texts = (part.strip() for part in pair.partition("="))
        both = [text.strip() for text in texts.split("|")]
        if not name or len(both) != 2 or not all(both):
            raise click.BadParameter(f"{pair!r}: write NAME=POSITIVE|NEGATIVE", param_hint="--pair")
        if name in read:
            raise click.BadParameter(f"{name!r} is given twice", param_hint="--pair")
        read[name] = both
    return read


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text in aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _row(described: Mapping[str, Any]) -> list[str]:
    return [cell(described) or "-" for cell in _COLUMNS.values()]


def _srcc(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _bundled() -> list[dict[str, Any]]:
    """The checkpoints that ship, and what they serve by default."""
    from app.catalogue import default_for, default_models, describe
    from app.settings import Settings
    from model.store.checkpoint import bundled_names, find, read_config

    configs = {name: read_config(find(name)) for name in bundled_names()}
    served = [configs[n] for n in Settings.model_fields["models"].default if n in configs]
    defaults = default_models(served) if served else {}
    return [
        describe(config, config.crop_policy, default_for(config.name, defaults))
        for config in configs.values()
    ]


def _of_service(server: str, api_key: str | None) -> list[dict[str, Any]]:
    """What GET /models of a service says.

    Raises:
        click.ClickException: no service is there, or it refuses.
    """
    from agiqa_client import AgiqaError, Client

    try:
        with Client(server, api_key=api_key, timeout=_SECONDS, retries=0) as client:
            described = [model.raw for model in client.models()]
        table([list(_COLUMNS), *map(_row, described)])  # whether it can be read at all
    except AgiqaError as error:
        hint = f" (here: --api-key, or {CLIENT_KEY})" if error.status == 401 else ""
        raise click.ClickException(f"{error}{hint}") from error
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    except (LookupError, TypeError, AttributeError) as error:
        raise click.ClickException(f"what answers at {server} is no agiqa service") from error
    return described
