"""What INPUT names, cut into units, one after the other: nothing here holds all images.

Files become units of so many names; Parquet files ranges of so many rows; a tar and a shard of
``datasets`` (Arrow) are a unit each.
"""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

from app.bulk.errors import CannotScore
from app.bulk.images import EXTENSIONS, STANDARD_INPUT
from app.bulk.parts.storage import file_system, is_address, opened
from app.bulk.parts.units import PART, Unit

_TARS = (".tar", ".tar.gz", ".tgz")
_LIST = ".txt"
_HOLDERS = (*_TARS, ".parquet", ".arrow")


def units(inputs: Sequence[str], listed: Iterable[str], images: int) -> Iterator[Unit]:
    """The units of inputs, always the same ones in the same order.

    Args:
        inputs: files, folders, globs, lists (.txt), Parquet files, tars, folders of ``datasets``,
            here or at addresses; ``-`` stands for ``listed``.
        listed: paths and addresses, no globs.
        images: files of a unit, or rows of a Parquet file.

    Raises:
        CannotScore: something is not there, or is no input.
    """
    names: list[str] = []
    for found in _found(inputs, listed, images):
        if isinstance(found, Unit):
            yield found
            continue
        names.append(found)
        if len(names) == images:
            yield Unit("files", names=tuple(names))
            names.clear()
    if names:
        yield Unit("files", names=tuple(names))


def _found(inputs: Sequence[str], listed: Iterable[str], images: int) -> Iterator[str | Unit]:
    for place in dict.fromkeys(inputs):
        if place == STANDARD_INPUT:
            for name in listed:
                yield from _below(name, images) if _is_folder(name) else _file(name, images)
        else:
            yield from _named(place, images)


def _named(place: str, images: int) -> Iterator[str | Unit]:
    matches = _matches(place)
    for match in matches:
        if _is_folder(match):
            yield from _below(match, images)
        # What a pattern for images finds beside them is no list.
        elif match.endswith(_LIST) and place.endswith(_LIST):
            for line in _lines(match):
                yield from _file(line, images)
        else:
            yield from _file(match, images)


def _matches(place: str) -> list[str]:
    """What a path or a glob names; a path that exists is that path whatever it holds."""
    fs, path = file_system(place)
    if fs.exists(path):
        return [place]
    if not is_address(place):
        found = sorted(glob.glob(place, recursive=True))
    else:
        found = sorted(fs.unstrip_protocol(match) for match in fs.glob(path))
    if not found:
        raise CannotScore(f"{place}: no such file or folder")
    return found


def _is_folder(name: str) -> bool:
    if not is_address(name):
        return os.path.isdir(name)
    fs, path = file_system(name)
    return bool(fs.isdir(path))


def _lines(address: str) -> Iterator[str]:
    with opened(address) as file:
        for line in file:
            if name := line.rstrip(b"\r\n"):
                yield os.fsdecode(name)


def _file(name: str, images: int) -> Iterator[str | Unit]:
    lower = name.lower()
    if lower.endswith(".parquet"):
        yield from _rows(name, images)
    elif lower.endswith(_TARS):
        yield Unit("tar", name, _size(name))
    elif lower.endswith(".arrow"):
        yield Unit("arrow", name, _size(name))
    else:
        yield name


def _size(address: str) -> int:
    fs, path = file_system(address)
    try:
        return int(fs.size(path) or 0)
    except FileNotFoundError as error:
        raise CannotScore(f"{address}: no such file") from error


def _below(folder: str, images: int) -> Iterator[str | Unit]:
    """What a folder holds: shards with images inside, in itself or in ``data/`` as data sets have
    them; a saved ``datasets`` in its splits; else all images to its bottom.
    """
    splits = _splits(folder)
    shards = [shard for split in splits for shard in _shards(split)]
    if shards:
        for shard in shards:
            yield from _file(shard, images)
        return
    yield from _images(folder)


def _splits(folder: str) -> list[str]:
    """The folder itself, ``data/``, and the splits of a ``DatasetDict``."""
    fs, path = file_system(folder)
    names = [*_names(fs, path)]
    if "dataset_dict.json" in names:
        return [f"{folder.rstrip('/')}/{n}" for n in names if fs.isdir(f"{path}/{n}")]
    return [folder, *([f"{folder.rstrip('/')}/data"] if "data" in names else [])]


def _shards(folder: str) -> list[str]:
    fs, path = file_system(folder)
    names = _names(fs, path) if fs.isdir(path) else []
    shards = [n for n in names if n.lower().endswith(_HOLDERS) and not _is_by_product(n)]
    found = [f"{folder.rstrip('/')}/{name}" for name in shards]
    return [shard for shard in found if not shard.endswith(".parquet") or _holds_images(shard)]


def _is_by_product(name: str) -> bool:
    """Parts of our own, what ``datasets`` keeps of its ``map``, and hidden files."""
    return bool(PART.fullmatch(name)) or name.startswith((".", "cache-"))


def _holds_images(address: str) -> bool:
    """Whether a Parquet file has bytes of images: a table about the images beside it has none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from app.bulk.parts.samples import columns_of

    try:
        with opened(address) as file:
            columns = columns_of(address, pq.read_schema(file))
    except (OSError, pa.ArrowException) as error:
        raise CannotScore(f"{address} can't be read: {error}") from error
    except CannotScore:
        return False
    return bool(columns.data or columns.image)


def _names(fs: Any, path: str) -> list[str]:
    if isinstance(fs.protocol, tuple) and "file" in fs.protocol:
        return sorted(os.listdir(path))
    return sorted(PurePath(entry).name for entry in fs.ls(path, detail=False))


def _images(folder: str) -> Iterator[str]:
    """Image files to the bottom, folder by folder, without those that start with a dot. No more
    than the names of one folder are held, but for addresses, whose store lists all at once.
    """
    if is_address(folder):
        fs, path = file_system(folder)
        found = (PurePath(entry).relative_to(path) for entry in sorted(fs.find(path)))
        hidden = (entry for entry in found if not any(p.startswith(".") for p in entry.parts))
        yield from (f"{folder.rstrip('/')}/{e}" for e in hidden if _is_image(e.name))
        return
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and _is_image(name):
                yield os.path.join(parent, name)


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in EXTENSIONS


def _rows(address: str, images: int) -> Iterator[Unit]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from app.bulk.parts.samples import columns_of

    try:
        with opened(address) as file, pq.ParquetFile(file) as table:
            columns_of(address, table.schema_arrow)
            count = table.metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        raise CannotScore(f"{address} can't be read: {error}") from error
    size = _size(address)
    for start in range(0, count, images):
        yield Unit("parquet", address, size, start, min(start + images, count))
