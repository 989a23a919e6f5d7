"""A run of ``agiqa score``: finds images, scores what is not scored yet, writes rows, sums up."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import click

from app.bulk import resume, summary
from app.bulk.errors import CannotScore, Stopped
from app.bulk.images import find_images
from app.bulk.progress import Progress
from app.bulk.prompts import with_prompts
from app.bulk.rows import Item, Row, Scoring, row_of_each
from app.bulk.tables import PARQUET, Write, opened, write_all
from model.config import Head
from reporting.errors import ReportingError
from reporting.html import jinja
from reporting.text import printable

DONE, SOME_FAILED, TOO_LOW, INTERRUPTED = 0, 3, 4, 130


@dataclass(frozen=True, slots=True)
class Job:
    """What a run of ``agiqa score`` is to do.

    Args:
        paths: files, folders, globs; ``-`` for ``listed``.
        listed: paths from standard input.
        prompt: of every image that ``prompts`` has none for.
        prompts: ``beside``, ``embedded`` or a table's path.
        heads: None: all that apply.
        out: None: CSV to standard output.
        resume: goes on with OUT.
        overwrite: an OUT that is there is replaced, else it is kept under another name.
        report: an HTML file.
        worst: how many of the worst images the summary lists.
        quiet: no progress, no summary.
        fail_under: lowest quality that an image may have.
        fail_under_mean: lowest mean quality.
    """

    paths: Sequence[str]
    listed: Sequence[str] = ()
    prompt: str | None = None
    prompts: str | None = None
    heads: tuple[Head, ...] | None = None
    out: Path | None = None
    resume: bool = False
    overwrite: bool = False
    report: Path | None = None
    worst: int = 10
    quiet: bool = False
    fail_under: float | None = None
    fail_under_mean: float | None = None

    @property
    def needs_quality(self) -> bool:
        """Whether the exit code depends on quality."""
        return self.fail_under is not None or self.fail_under_mean is not None


def run(job: Job, connect: Callable[[], Scoring]) -> int:
    """Does the job and returns the exit code.

    Args:
        job: paths, prompts, OUT and conditions.
        connect: loads the model, or finds the service; called once all else is known to fit.

    Raises:
        CannotScore: it can't start.
    """
    _check(job)
    items, warnings = with_prompts(find_images(job.paths, job.listed), job.prompts, job.prompt)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    if job.heads == ("consistency",) and not any(item.prompt for item in items):
        raise CannotScore("consistency needs prompts: give --prompt or --prompts")
    kept = resume.rows_so_far(job.out) if job.out and job.resume else []
    scoring = connect()
    if job.needs_quality and "quality" not in (job.heads or scoring.model.heads):
        raise CannotScore("--fail-under needs the head quality")
    if job.out:
        resume.check_same(job.out, kept, items, scoring.model, job.heads)
    have = {row["path"] for row in kept}
    todo = [item for item in items if item.name not in have]
    started = time.monotonic()
    new: list[Row] = []
    try:
        _score(job, scoring, todo, kept, new)
    except (KeyboardInterrupt, Stopped) as stopped:
        click.echo(_how_to_go_on(job, stopped, len(new), len(todo)), err=True)
        return INTERRUPTED if isinstance(stopped, KeyboardInterrupt) else SOME_FAILED
    seconds = time.monotonic() - started
    rows = [*kept, *new]
    if not job.quiet:
        click.echo(summary.as_text(rows, seconds, len(new), worst=job.worst), err=True)
    if job.report:
        _report(job, job.report, scoring, rows, items)
    return _verdict(job, rows)


def _check(job: Job) -> None:
    if job.out:
        resume.check(job.out)
    if job.resume and not job.out:
        raise CannotScore("--resume goes on with a file: name it with -o")
    if job.resume and job.overwrite:
        raise CannotScore("--resume goes on with OUT, --overwrite replaces it: give one of them")
    if job.report and not job.report.absolute().parent.is_dir():
        raise CannotScore(f"{job.report}: there is no folder {job.report.parent}")
    if job.report:
        try:
            jinja()
        except ReportingError as error:
            raise CannotScore(str(error)) from error


def _score(
    job: Job, scoring: Scoring, todo: Sequence[Item], kept: Sequence[Row], new: list[Row]
) -> None:
    """Scores and writes each row as it comes, and appends it to ``new``: an error that stops the
    run leaves there what is done.
    """
    to_terminal = job.out is None and sys.stdout.isatty()
    bar = Progress(len(todo), quiet=job.quiet, to_terminal=to_terminal)
    # The rows are closed at once when the run ends early, not when their last reference goes.
    with _opened(job, kept) as write, closing(bar), closing(row_of_each(scoring, todo)) as rows:
        for row in rows:
            write(row)
            new.append(row)
            bar.step(failed=row["code"] is not None)


def _opened(job: Job, kept: Sequence[Row]) -> AbstractContextManager[Write]:
    if job.out is None:
        return nullcontext(write_all(_Terminal() if sys.stdout.isatty() else sys.stdout, ()))
    if job.overwrite:
        resume.remove(job.out)
    elif not job.resume:
        for free in resume.keep_away(job.out):
            click.echo(f"{job.out} was there already: it is kept as {free}", err=True)
    return opened(job.out, kept)


class _Terminal:
    """Standard output where somebody looks at it."""

    def write(self, text: str) -> None:
        sys.stdout.write(printable(text))

    def flush(self) -> None:
        sys.stdout.flush()


def _how_to_go_on(job: Job, stopped: BaseException, new: int, wanted: int) -> str:
    what = "stopped" if isinstance(stopped, KeyboardInterrupt) else str(stopped)
    done = f"{what}: {new} of {wanted} images are done"
    if job.out is None:
        return f"{done}; with -o FILE a stopped run can be resumed"
    there = " beside it" if job.out.suffix == PARQUET else ""
    return f"{done} and kept in {job.out}{there}; go on with the same command and --resume"


def _report(
    job: Job, file: Path, scoring: Scoring, rows: Sequence[Row], items: Sequence[Item]
) -> None:
    from app.bulk.report import write_report

    paths = {item.name: item.path for item in items}
    write_report(file, scoring.model, rows, paths, table=job.out)
    click.echo(f"wrote {file}", err=True)


def _verdict(job: Job, rows: Sequence[Row]) -> int:
    """The exit code; writes what is not in order to standard error."""
    failed = sum(row["code"] is not None for row in rows)
    if failed:
        click.echo(
            f"{failed} of {len(rows)} images could not be scored; see the column code", err=True
        )
    low = list(_too_low(job, rows))
    for fault in low:
        click.echo(fault, err=True)
    if failed:
        return SOME_FAILED
    return TOO_LOW if low else DONE


def _too_low(job: Job, rows: Sequence[Row]) -> Iterator[str]:
    values = [row["quality"] for row in rows if row["quality"] is not None]
    if job.fail_under is not None and (low := [v for v in values if v < job.fail_under]):
        of = f"{len(low)} of {len(values)} images"
        yield f"{of} have a quality under {job.fail_under:g}; the lowest is {min(low):.3f}"
    if job.fail_under_mean is not None and values:
        mean = sum(values) / len(values)
        if mean < job.fail_under_mean:
            yield f"the mean quality is {mean:.3f}, under {job.fail_under_mean:g}"
