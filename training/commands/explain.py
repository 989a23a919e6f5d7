"""``agiqa explain``: the papers' pictures."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from model.config import HEADS
from model.errors import ModelError
from model.store.files import write_atomically
from training.commands import options
from training.commands.errors import reported_errors

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, type=_FILE)
@options.checkpoint
@click.option("--beside", metavar="CHECKPOINT", help="Another, as the visual-only variant.")
@click.option(
    "--head",
    type=click.Choice(HEADS),
    default="quality",
    show_default=True,
)
@click.option(
    "--kind",
    type=click.Choice(["grad-cam", "roll-out"]),
    default="grad-cam",
    show_default=True,
    help="What raises the score, or what the class token attends to.",
)
@click.option("--prompt", help="What the images were generated from; consistency needs it.")
@click.option(
    "--features",
    "data",
    metavar="FOLDER",
    type=options.FOLDER,
    help="Instead of images: a t-SNE of this data set's semantic features.",
)
@click.option(
    "--part",
    default="test",
    show_default=True,
    help="Of --features: part of the checkpoint's own split, or all.",
)
@click.option("--device", default="auto", show_default=True)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="The picture (.png; .svg with --features); for several images a folder.",
)
def explain(images: tuple[Path, ...], data: Path | None, part: str, **chosen: Any) -> None:
    """Show what a model looks at in each IMAGE, or with --features how it sorts a data set."""
    if bool(images) == bool(data):
        raise click.UsageError("give images, or --features with the folder of a data set")
    with reported_errors():
        try:
            if data:
                _features(data, part, chosen)
            else:
                _pictures(images, chosen)
        except (ValueError, OSError) as error:
            raise click.ClickException(str(error)) from error


def _pictures(images: Sequence[Path], chosen: dict[str, Any]) -> None:
    """Each image with its map, and beside it the other checkpoint's."""
    from tqdm import tqdm

    from model.preprocess.images import read
    from training.research.explain.cam import explain as explained
    from training.research.explain.pictures import side_by_side
    from training.research.explain.subject import Subject

    places = _places(images, chosen["out"])
    names = [name for name in (chosen["checkpoint"], chosen["beside"]) if name]
    subjects = [Subject.load(name, device=chosen["device"]) for name in names]
    for subject in subjects:
        subject.reading(chosen["head"], chosen["prompt"])  # refused before any work
    for image, place in tqdm(
        list(zip(images, places, strict=True)),
        desc="explain",
        unit="image",
        disable=len(images) == 1,
    ):
        try:
            maps = [
                explained(subject, image, chosen["head"], chosen["kind"], chosen["prompt"])
                for subject in subjects
            ]
            picture = read(image)
        except ModelError as error:
            raise click.ClickException(f"{image}: {error}") from error
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, side_by_side(picture, [(each.model, each) for each in maps]))
    click.echo(f"wrote {places[0] if len(places) == 1 else places[0].parent}")


def _places(images: Sequence[Path], out: Path | None) -> list[Path]:
    """Where each image's picture goes.

    Raises:
        ValueError: several images for one file, or two for the same.
    """
    if len(images) == 1 and (out is None or out.suffix):
        place = out or Path(f"{images[0].stem}-explained.png")
        if place.suffix.lower() != ".png":
            raise ValueError(f"{place}: the picture is a .png file")
        return [place]
    if out is not None and out.suffix:
        raise ValueError(f"{out}: several images need a folder")
    places = [(out or Path("explained")) / f"{image.stem}.png" for image in images]
    twice = [place.name for place, count in Counter(places).items() if count > 1]
    if twice:
        raise ValueError(f"several images would be called {', '.join(twice)}")
    return places


def _features(data: Path, part: str, chosen: dict[str, Any]) -> None:
    """The t-SNE of the images of a data set's part, coloured by opinion score."""
    from training.reports.plots import embedding
    from training.research.explain.features import embed, samples_of, semantic_features
    from training.research.explain.subject import Subject

    out: Path = chosen["out"] or Path("features.svg")
    if out.suffix.lower() != ".svg":
        raise ValueError(f"{out}: the features are drawn as a .svg file")
    subject = Subject.load(chosen["checkpoint"], device=chosen["device"])
    samples = samples_of(subject, data, part)
    points = embed(semantic_features(subject, samples))
    figure = embedding(points, [sample.mos for sample in samples], intervals=5)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, figure.image)
    click.echo(f"wrote {out}: {len(samples)} images")
