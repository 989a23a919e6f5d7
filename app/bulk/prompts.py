"""Which prompt an image was generated from: one for all, a table, a file beside it, or its own
metadata.
"""

import csv
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from app.bulk.embedded import embedded_prompt
from app.bulk.errors import CannotScore
from app.bulk.rows import Item, is_special


def beside(image: Path) -> str | None:
    """The whole text of ``cat.txt`` beside ``cat.png``; None: there is none."""
    file = image.with_suffix(".txt")
    if is_special(file):
        raise CannotScore(f"{file} is no regular file")
    try:
        return file.read_text(encoding="utf-8-sig").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        raise CannotScore(f"{file}: {_reason(error)}") from error


# What --prompts may name but a table: where each finds an image's prompt, and that place in words.
_SOURCES: dict[str, tuple[Callable[[Path], str | None], str]] = {
    "beside": (beside, "in a .txt file beside them"),
    "embedded": (embedded_prompt, "in their metadata"),
}


class Table:
    """A CSV file with the columns image and prompt.

    A row belongs to the image at its path (from here, else from the table's folder); rows that name
    no such image belong to all images of their file name, unless several prompts have that name.
    """

    def __init__(self, file: Path) -> None:
        self._by_path: dict[str, str] = {}
        self._by_name: dict[str, set[str]] = defaultdict(set)
        self.ambiguous: set[str] = set()
        rows = _rows(file)
        for image, prompt in rows:
            self._by_path[os.path.abspath(file.parent / image)] = prompt
            self._by_name[image.name].add(prompt)
        # What is written as seen from here goes first.
        self._by_path |= {os.path.abspath(image): prompt for image, prompt in rows}

    def of(self, image: Path) -> str | None:
        """The image's prompt; a name with several is remembered as ambiguous."""
        path = os.path.abspath(image)
        if path in self._by_path:
            return self._by_path[path] or None
        prompts = self._by_name.get(image.name, set())
        if len(prompts) > 1:
            self.ambiguous.add(path)
            return None
        return next(iter(prompts), None) or None


def with_prompts(
    images: Sequence[Path], source: str | None, for_all: str | None
) -> tuple[list[Item], list[str]]:
    """The images with their prompts, and sentences about prompts that were not found.

    Args:
        images: in order.
        source: ``beside``, ``embedded`` or a table's path; None: no source.
        for_all: the prompt of images that the source has none for.

    Raises:
        CannotScore: the source can't be read.
    """
    fallback = (for_all or "").strip() or None
    if source is None:
        return [Item(image, fallback) for image in images], []
    table = None if source in _SOURCES else Table(Path(source))
    prompt_of, where = (table.of, f"in {source}") if table else _SOURCES[source]
    found = [(image, None if is_special(image) else prompt_of(image)) for image in images]
    missing = sum(prompt is None for _, prompt in found)
    warnings = []
    if missing:
        then = "they are scored with --prompt" if fallback else "they get no consistency"
        warnings.append(f"{missing} of {len(images)} images have no prompt {where}: {then}")
    if table and table.ambiguous:
        warnings.append(
            f"{len(table.ambiguous)} of them have a file name that stands in {source} with "
            "several prompts: write their paths there, as seen from its folder"
        )
    return [Item(image, prompt or fallback) for image, prompt in found], warnings


def _rows(file: Path) -> list[tuple[Path, str]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            table = csv.DictReader(lines)
            if not {"image", "prompt"} <= set(table.fieldnames or ()):
                raise CannotScore(f"{file} needs the columns image and prompt")
            return [(Path(row["image"]), (row["prompt"] or "").strip()) for row in table]
    except (OSError, UnicodeError, csv.Error) as error:
        raise CannotScore(f"{file}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "save it as UTF-8" if isinstance(error, UnicodeError) else str(error)
