"""Which files are scored: paths, folders, globs, and lists on standard input."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from app.bulk.errors import CannotScore

STANDARD_INPUT = "-"
EXTENSIONS = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp"),
    *(".gif", ".tif", ".tiff", ".avif"),
}


def find_images(paths: Sequence[str], listed: Iterable[str] = ()) -> list[Path]:
    """Files named by paths, globs and folders, each once, in order.

    A folder is searched to the bottom for files with an image's extension; what starts with a dot
    is left out. A file that is named itself is taken whatever it is called.

    Args:
        paths: files, folders and globs; ``-`` stands for ``listed``.
        listed: paths of files and folders, no globs.

    Raises:
        CannotScore: a path that matches nothing, or no images at all.
    """
    found: dict[str, Path] = {}
    for path_or_glob in paths:
        from_list = path_or_glob == STANDARD_INPUT
        matches = map(Path, listed) if from_list else _matches(path_or_glob)
        for path in matches:
            for file in _files(path):
                found.setdefault(os.path.abspath(file), file)
    if not found:
        raise CannotScore(f"there are no images in {', '.join(paths)}")
    return list(found.values())


def read_list(data: bytes, *, null: bool) -> list[str]:
    """Paths out of a list: one per line, or separated by NUL bytes as ``find -print0`` does."""
    lines = data.split(b"\0") if null else data.splitlines()
    return [os.fsdecode(line) for line in lines if line.strip()]


def _matches(path_or_glob: str) -> list[Path]:
    """A path as it is, if something is there: names may hold brackets."""
    if Path(path_or_glob).exists():
        return [Path(path_or_glob)]
    matches = sorted(glob.glob(path_or_glob, recursive=True))
    if not matches:
        raise CannotScore(f"{path_or_glob}: no such file or folder")
    return [Path(match) for match in matches]


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(_below(path))
    elif path.exists():
        yield path
    else:
        raise CannotScore(f"{path}: no such file or folder")


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS:
                yield Path(place, name)
