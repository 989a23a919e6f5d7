"""What OUT holds from an earlier run: goes on with it, keeps it under another name, or refuses."""

from collections.abc import Sequence
from pathlib import Path

from app.bulk.errors import CannotScore, require
from app.bulk.rows import PASSING_CODES, Item, ModelFacts, Row, heads_for
from app.bulk.tables import FORMATS, PARQUET, journal_of, read
from model.config import HEADS, Head


def check(out: Path) -> None:
    """Whether OUT can be written.

    Raises:
        CannotScore: an unknown format, or one whose package is missing; no folder to write to.
    """
    if out.suffix not in FORMATS:
        raise CannotScore(f"{out}: write to a .csv or a .jsonl or a .parquet file")
    if out.suffix == PARQUET:
        require("pyarrow", out.name)
    if not out.parent.is_dir():
        raise CannotScore(f"{out}: there is no folder {out.parent}")
    if out.is_dir():
        raise CannotScore(f"{out} is a folder")


def rows_so_far(out: Path) -> list[Row]:
    """The rows of an earlier run that stay, finished or not. Rows that failed for a reason that may
    be gone are left out, so that they are tried again.

    Raises:
        CannotScore: OUT is something else.
    """
    # A journal that was begun from OUT repeats its rows: the last word on a path counts.
    rows = {row["path"]: row for file in _files(out) if file.is_file() for row in read(file)}
    return [row for row in rows.values() if row["code"] not in PASSING_CODES]


def check_same(
    out: Path,
    kept: Sequence[Row],
    items: Sequence[Item],
    model: ModelFacts,
    chosen: Sequence[Head] | None,
) -> None:
    """Whether the rows of OUT are what this run would have given.

    Raises:
        CannotScore: they come from another model, crop policy, prompt, or have other heads.
    """
    by_name = {item.name: item for item in items}
    for row in kept:
        was = f"{row['model']} {row['revision']} ({row['crop_policy']})"
        now = f"{model.name} {model.revision} ({model.crop_policy})"
        if was != now:
            raise _other(out, f"the model {was}, this run would use {now}")
        item = by_name.get(row["path"])
        if item is None or row["code"]:
            continue
        if row["prompt"] != item.prompt:
            prompts = f"{row['prompt'] or ''!r}, now it is {item.prompt or ''!r}"
            raise _other(out, f"other prompts: of {item.name} it was {prompts}")
        had = tuple(head for head in HEADS if row[head] is not None)
        wanted = heads_for(model, chosen, prompted=item.prompt is not None)
        if set(had) != set(wanted):
            raise _other(out, f"the heads {','.join(had)}, now they are {','.join(wanted)}")


def keep_away(out: Path) -> list[Path]:
    """Gives what an earlier run has left the next free name (``scores.1.csv``), so that nothing is
    lost; returns the new names.
    """
    kept = []
    for file in _files(out):
        if file.is_file() and file.stat().st_size:
            stem, number = file.name.removesuffix(file.suffix), 1
            while (free := file.with_name(f"{stem}.{number}{file.suffix}")).exists():
                number += 1
            kept.append(file.rename(free))
    return kept


def remove(out: Path) -> None:
    """Removes what an earlier run has left."""
    for file in _files(out):
        file.unlink(missing_ok=True)


def _files(out: Path) -> list[Path]:
    return list(dict.fromkeys((out, journal_of(out))))


def _other(out: Path, what: str) -> CannotScore:
    return CannotScore(
        f"{out} was made with {what}; --resume goes on with the same set-up only: name another "
        "file, or leave out --resume"
    )
