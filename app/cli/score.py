"""``agiqa score``: many images, scored here or through a service."""

import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import click

from app.bulk.errors import CannotScore
from app.bulk.images import STANDARD_INPUT, read_list
from app.bulk.rows import Scoring
from app.bulk.run import INTERRUPTED, Job, run
from app.bulk.setup import DEFAULT_MODEL, LocalSetup
from app.bulk.tables import is_folder
from app.cli.errors import as_messages
from app.cli.models import CLIENT_KEY
from model.config import CROP_POLICIES, Head

if TYPE_CHECKING:
    from app.bulk.parts.units import Shard

_FILE = click.Path(path_type=Path)
_LOCAL_ONLY = ("device", "dtype", "crop_policy", "decode_workers")
_REMOTE_ONLY = ("api_key", "concurrency", "deadline")
_PARTS_ONLY = ("shard", "ray", "unit_images")
_TABLE_ONLY = ("server", *_REMOTE_ONLY, "overwrite", "report", "fail_under", "fail_under_mean")
# The --help of click joins lines; a paragraph that starts with \b is left as it is.
_EPILOG = """\b
Exit codes:
  0    all images have scores
  1    it could not start: no such file, model, service ...
  2    an option is wrong
  3    some images could not be scored (columns code and detail)
  4    quality is under --fail-under or --fail-under-mean
  130  stopped with Ctrl-C; --resume goes on
"""


@click.command(epilog=_EPILOG)
# Images and prompts.
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option(
    "-t",
    "--target",
    "-i",
    "--input",
    "targets",
    multiple=True,
    metavar="PATH",
    help="As PATH, and an argument is then the model, as in: pyiqa MODEL -t PATH.",
)
@click.option("-0", "--null", is_flag=True, help="The list of '-' is separated by NUL bytes.")
@click.option("--prompt", metavar="TEXT", help="The prompt of all images that have no other.")
@click.option(
    "--prompts",
    metavar="CSV|beside|embedded",
    help="CSV with the columns image,prompt; or the text file beside each image; or what "
    "AUTOMATIC1111 and ComfyUI wrote into it.",
)
# The model, and how it runs here.
@click.option(
    "-m",
    "--checkpoint",
    "--metric_name",
    metavar="NAME",
    help="Bundled name, folder or hf://owner/name; with --server one of its models  "
    f"[{DEFAULT_MODEL}]",
)
@click.option("--heads", help="Of quality,alignment,consistency  [all that apply]")
@click.option(
    "--device",
    help="auto, cpu, cuda, cuda:1 ...; with a folder as OUT a list, and auto is all GPUs  [auto]",
)
@click.option("--dtype", type=click.Choice(["auto", "float32", "bfloat16"]), help="[auto]")
@click.option("--crop-policy", type=click.Choice(CROP_POLICIES), help="[the checkpoint's own]")
@click.option(
    "--decode-workers",
    type=click.IntRange(0),
    help="Processes that decode, each image within the service's limits; 0: threads, without  "
    "[a core each, 8 at most]",
)
# The service instead.
@click.option("--server", metavar="URL", help="Score through this running service.")
@click.option("--api-key", metavar="KEY", help=f"The service's key  [{CLIENT_KEY}]")
@click.option("--concurrency", type=click.IntRange(1), help="Images under way at the service  [8]")
@click.option(
    "--deadline",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="For each image, with all tries  [the service's, for each try]",
)
# What comes of it.
@click.option(
    "-o",
    "--out",
    "--save_file",
    help=".csv, .jsonl or .parquet, or a folder or an address: one Parquet file for each unit of "
    "work  [CSV to the terminal]",
)
@click.option("--resume", is_flag=True, help="Go on with OUT: leave out what it has already.")
@click.option(
    "--overwrite", is_flag=True, help="Replace OUT  [an OUT that is there gets another name]"
)
@click.option("--report", type=_FILE, metavar="HTML", help="Write a report to look at.")
@click.option(
    "--worst",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="How many of the worst images the summary lists.",
)
# By parts: OUT is a folder.
@click.option(
    "--shard",
    metavar="I/N",
    help="Do every N-th unit from number I on  [as the array job of Kubernetes or SLURM says]",
)
@click.option(
    "--ray",
    is_flag=False,
    flag_value="",
    metavar="[ADDRESS]",
    help="Do the units on a Ray cluster; without ADDRESS on one of this machine's own.",
)
@click.option(
    "--unit-images",
    type=click.IntRange(1),
    metavar="N",
    help="Images of a unit, for 20 to 60 seconds  [1000, on a GPU 10000]",
)
@click.option(
    "-q/-v", "--quiet/--verbose", "quiet", default=False, help="No progress and no summary."
)
@click.option(
    "--fail-under",
    type=click.FloatRange(0, 1),
    metavar="Q",
    help="Exit with 4 if an image's quality is lower.",
)
@click.option(
    "--fail-under-mean",
    type=click.FloatRange(0, 1),
    metavar="Q",
    help="Exit with 4 if the mean quality is lower.",
)
def score(**given: Any) -> None:
    """Score images: files, folders, globs, and with '-' a list on standard input.

    A row per image, in their order: path, quality, alignment, consistency, or code and detail; then
    what is known beside it. Rows are written as they come, so a stopped run loses nothing: --resume
    goes on with it. No server is needed.

    With a folder or an address as OUT, the images may be millions, in Parquet files, tars and
    folders of data sets too, and several machines may share them: see --shard and --ray. The same
    command goes on.
    """
    try:
        with as_messages(CannotScore):
            status = _run(given)
    except KeyboardInterrupt:  # before the first image: while the model loads, say
        click.echo("stopped", err=True)
        status = INTERRUPTED
    sys.exit(status)


def _run(given: dict[str, Any]) -> int:
    out = given["out"]
    if out and is_folder(out):
        return _by_parts(given)
    _refuse(given, _PARTS_ONLY, "a folder as OUT")
    given["out"] = Path(out) if out else None
    return run(_job(given), lambda: _connect(given))


def _job(given: dict[str, Any]) -> Job:
    _take_pyiqas_arguments(given)
    asks = STANDARD_INPUT in given["paths"]
    if given["null"] and not asks:
        raise CannotScore("--null is about a list on standard input: give '-' as a path")
    stdin = sys.stdin.buffer.read() if asks else b""
    given["listed"] = read_list(stdin, null=given["null"])
    given["heads"] = _heads(given["heads"])
    # The other options, by the names of their parameters, are about who scores.
    return Job(**{field.name: given[field.name] for field in fields(Job)})


def _take_pyiqas_arguments(given: dict[str, Any]) -> None:
    """``pyiqa MODEL -t PATH``: with targets, the argument is the model."""
    if not given["targets"]:
        if not given["paths"]:
            raise CannotScore("name the images: files, folders, globs, or - for a list")
        return
    if len(given["paths"]) > 1:
        raise CannotScore("with --target the argument is the model, one at a time")
    if given["paths"] and given["checkpoint"]:
        raise CannotScore("with --target the argument is the model: leave out --checkpoint")
    given["checkpoint"] = (*given["paths"], given["checkpoint"])[0]
    given["paths"] = given["targets"]


def _heads(given: str | None) -> tuple[Head, ...] | None:
    if given is None:
        return None
    heads = tuple(dict.fromkeys(part.strip() for part in given.split(",")))
    for head in heads:
        if head not in get_args(Head):
            raise CannotScore(f"--heads: {head!r} is none of {', '.join(get_args(Head))}")
    return cast(tuple[Head, ...], heads)


def _connect(given: dict[str, Any]) -> Scoring:
    there, here = ("--server", _LOCAL_ONLY) if given["server"] else ("", _REMOTE_ONLY)
    if wrong := [name for name in here if given[name] is not None]:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in wrong)
        if there:
            raise CannotScore(f"{options}: with --server the service has decided that already")
        raise CannotScore(f"{options}: only with --server")
    return _service(given) if given["server"] else _here(given).connect()


def _service(given: dict[str, Any]) -> Scoring:
    from app.bulk.remote import RemoteScoring

    return RemoteScoring(
        given["server"],
        given["checkpoint"],
        given["heads"],
        api_key=given["api_key"] or os.environ.get(CLIENT_KEY),
        concurrency=given["concurrency"] or 8,
        deadline=given["deadline"],
    )


def _here(given: dict[str, Any]) -> LocalSetup:
    return LocalSetup(
        given["checkpoint"],
        given["device"],
        given["dtype"],
        given["crop_policy"],
        given["decode_workers"],
        given["heads"],
    )


def _by_parts(given: dict[str, Any]) -> int:
    from app.bulk.parts.run import PartsJob, run_parts
    from app.bulk.parts.samples import Prompts

    _refuse(given, _TABLE_ONLY, "a table as OUT")
    job, setup = _job(given), _here(given)
    if job.prompts not in (None, "beside", "embedded"):
        raise CannotScore("--prompts FILE: give a Parquet file with the columns path and prompt")
    on_ray = given["ray"] is not None
    setups = [setup] if on_ray else setup.for_each_device()
    return run_parts(
        PartsJob(
            job.paths,
            str(given["out"]),
            setups,
            job.listed,
            Prompts(job.prompts, (job.prompt or "").strip() or None),
            job.heads,
            given["unit_images"],
            setups[0].on_gpu,
            _shard(given),
            given["ray"],
            job.quiet,
        )
    )


def _shard(given: dict[str, Any]) -> "Shard":
    from app.bulk.parts.units import Shard

    if given["ray"] is not None:
        if given["shard"]:
            raise CannotScore("--ray spreads all units over its cluster: leave out --shard")
        return Shard()
    if given["shard"]:
        return Shard.parse(given["shard"])
    shard = Shard.of_environment(os.environ)
    if shard.count > 1 and not given["quiet"]:
        click.echo(f"this is task {shard} of an array job (--shard 0/1 does all units)", err=True)
    return shard


def _refuse(given: dict[str, Any], names: Sequence[str], needs: str) -> None:
    if wrong := [name for name in names if given[name] not in (None, False)]:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in wrong)
        raise CannotScore(f"{options}: only with {needs}")
