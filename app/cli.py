"""The ``agiqa`` command. Subcommands of other packages join through the entry-point group
``agiqa.commands``.
"""

import csv
import glob
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import click

from app.cli_models import COMMANDS, CROP_POLICIES

_IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
_HEADS = ("quality", "alignment", "consistency")


class _Commands(click.Group):
    """The group, with the commands of installed packages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(
            {*super().list_commands(ctx), *(e.name for e in entry_points(group="agiqa.commands"))}
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if own := super().get_command(ctx, cmd_name):
            return own
        found = [e for e in entry_points(group="agiqa.commands") if e.name == cmd_name]
        return found[0].load() if found else None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("agiqa"), prog_name="agiqa")
def main() -> None:
    """Score the quality of images, generated ones above all."""


@main.command()
@click.option("--host", help="Address to listen on  [127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on  [8000]")
@click.option(
    "--model",
    "models",
    multiple=True,
    help="Bundled name, checkpoint folder or hf://owner/name; repeat for several.",
)
@click.option("--device", help="auto, cpu, cuda, cuda:1 ...")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="AGIQA_CONFIG",
    help="TOML file with settings.",
)
def serve(config: Path | None, models: tuple[str, ...], **flags: Any) -> None:
    """Run the service."""
    from app.arena import ArenaError
    from app.main import serve as run
    from app.settings import SettingsError, load_settings

    try:
        settings = load_settings({**flags, "models": models or None}, config)
        status = run(settings)
    except (SettingsError, ArenaError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(status)


@main.command()
@click.argument("paths", nargs=-1, required=True)
@click.option(
    "--checkpoint",
    default="tiny-clip-agiqa",
    show_default=True,
    help="Bundled name, folder or hf://owner/name.",
)
@click.option("--prompt", help="The prompt that all the images were generated from.")
@click.option(
    "--prompts",
    type=click.Path(exists=True, path_type=Path),
    help="CSV with the columns image,prompt.",
)
@click.option("--heads", help="Of quality,alignment,consistency  [all that apply]")
@click.option("--device", default="auto", show_default=True)
@click.option(
    "--dtype", type=click.Choice(["auto", "float32", "bfloat16"]), default="auto", show_default=True
)
@click.option("--crop-policy", type=click.Choice(CROP_POLICIES), help="[the checkpoint's own]")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help=".csv or .jsonl  [CSV to the terminal]"
)
@click.option("--resume", is_flag=True, help="Leave out images that OUT already has.")
def score(
    paths: tuple[str, ...],
    checkpoint: str,
    heads: str | None,
    out: Path | None,
    resume: bool,
    **options: Any,
) -> None:
    """Score images: files, folders and globs. No server is needed."""
    import model
    from model.errors import ModelError

    if out and out.suffix not in {".csv", ".jsonl"}:
        raise click.ClickException(f"{out}: write to a .csv or a .jsonl file")
    files = find_images(paths)
    prompts = _read_prompts(options["prompts"]) if options["prompts"] else {}
    done = _scored_already(out) if resume and out else set()
    chosen = tuple(heads.split(",")) if heads else None
    try:
        scorer = model.load(checkpoint, options["device"], options["dtype"], options["crop_policy"])
    except (ModelError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    rows = (
        _score_file(scorer, f, prompts.get(f.name, options["prompt"]), chosen)
        for f in files
        if str(f) not in done
    )
    failed = _write(rows, out, len(files) - len(done), append=bool(done))
    if failed:
        click.echo(
            f"{failed} of {len(files)} images could not be scored; see the column code", err=True
        )
        sys.exit(3)


def find_images(paths: Iterable[str]) -> list[Path]:
    """Files named by paths, globs and folders (searched to the bottom), each once, in order.

    Raises:
        click.ClickException: a path that matches nothing.
    """
    found: dict[Path, None] = {}
    for given in paths:
        matches = [Path(match) for match in sorted(glob.glob(given, recursive=True))] or [
            Path(given)
        ]
        for path in matches:
            if path.is_dir():
                found |= dict.fromkeys(
                    sorted(p for p in path.rglob("*") if p.suffix.lower() in _IMAGES)
                )
            elif path.is_file():
                found[path] = None
            else:
                raise click.ClickException(f"{given}: no such file or folder")
    if not found:
        raise click.ClickException("there are no images in the given places")
    return list(found)


def _score_file(
    scorer: Any, file: Path, prompt: str | None, heads: Sequence[str] | None
) -> dict[str, Any]:
    from model.errors import ImageError

    row: dict[str, Any] = dict.fromkeys(("path", *_HEADS, "code", "detail"))
    row["path"] = str(file)
    try:
        result = scorer.score(file, prompt, heads)
    except ImageError as error:
        return row | {"code": error.code, "detail": str(error)}
    except (OSError, ValueError) as error:
        return row | {"code": "bad_field", "detail": str(error)}
    return row | {head: getattr(result, head) for head in _HEADS}


def _write(rows: Iterable[Mapping[str, Any]], out: Path | None, total: int, *, append: bool) -> int:
    """Writes rows as they come, so that a stopped run can be resumed; returns how many failed."""
    from tqdm import tqdm

    failed = 0
    with click.open_file(str(out) if out else "-", "a" if append else "w") as file:
        table = csv.DictWriter(file, ["path", *_HEADS, "code", "detail"], lineterminator="\n")
        as_csv = not (out and out.suffix == ".jsonl")
        if as_csv and not append:
            table.writeheader()
        for row in tqdm(rows, total=total, unit="image", disable=out is None):
            failed += row["code"] is not None
            if as_csv:
                table.writerow(row)
            else:
                file.write(json.dumps(row) + "\n")
            file.flush()
    return failed


def _read_prompts(file: Path) -> dict[str, str]:
    with file.open(newline="") as lines:
        table = csv.DictReader(lines)
        if not {"image", "prompt"} <= set(table.fieldnames or ()):
            raise click.ClickException(f"{file} needs the columns image and prompt")
        return {Path(row["image"]).name: row["prompt"] for row in table}


def _scored_already(out: Path) -> set[str]:
    if not out.is_file():
        return set()
    with out.open(newline="") as file:
        if out.suffix == ".jsonl":
            return {json.loads(line)["path"] for line in file if line.endswith("\n")}
        return {row["path"] for row in csv.DictReader(file) if row["path"]}


for command in COMMANDS:
    main.add_command(command)


if __name__ == "__main__":
    main()
