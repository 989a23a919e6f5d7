"""The images of a unit with their prompts. Bytes out of Parquet, Arrow and tars lie in a temporary
file while their unit is scored, not in memory: there may be gigabytes of them.
"""

import io
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import IO, Any

from app.bulk.embedded import embedded_prompt
from app.bulk.errors import CannotScore
from app.bulk.images import EXTENSIONS
from app.bulk.parts.storage import Remote, is_address, opened
from app.bulk.parts.units import Unit
from app.bulk.prompts import with_prompts
from app.bulk.rows import Item

_ROWS_AT_ONCE = 64
_REQUESTS = 16


class UnitFailed(Exception):
    """A unit can't be scored as a whole, so it gets no part."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Where prompts come from: ``source`` is ``beside``, ``embedded`` or None, ``for_all`` is that
    of images without one. A column ``prompt`` goes first.
    """

    source: str | None = None
    for_all: str | None = None

    def of_bytes(self, data: bytes) -> str | None:
        """The prompt of an image out of a table or a tar."""
        found = embedded_prompt(io.BytesIO(data)) if self.source == "embedded" else None
        return found or self.for_all

    def at_address(self, address: str) -> str | None:
        """The prompt of an image at an address of fsspec: out of its first bytes, or ``cat.txt``.

        Raises:
            CannotScore: there is a text beside it that can't be read.
        """
        if self.source == "embedded":
            with suppress(OSError), opened(address) as file:  # scoring says what is wrong with it
                return embedded_prompt(file) or self.for_all
        if self.source == "beside":
            return _text_beside(address) or self.for_all
        return self.for_all


def _text_beside(address: str) -> str | None:
    folder, _, name = address.rpartition("/")
    beside = f"{folder}/{PurePosixPath(name).with_suffix('.txt')}"
    try:
        return Remote(beside, beside).read_bytes().decode("utf-8-sig").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        raise CannotScore(f"{beside}: {error}") from error


class _Span:
    """An image in the unit's temporary file."""

    def __init__(self, name: str, file: int, start: int, size: int) -> None:
        self.name, self._file, self._start, self._size = name, file, start, size

    def read_bytes(self) -> bytes:
        return os.pread(self._file, self._size, self._start)


class _Unreadable:
    """An image that gets a row and no scores."""

    def __init__(self, name: str, why: str) -> None:
        self.name, self._why = name, why

    def read_bytes(self) -> bytes:
        raise OSError(self._why)


@contextmanager
def samples(unit: Unit, prompts: Prompts) -> Iterator[list[Item]]:
    """The images of a unit, which can be read until the block ends.

    Raises:
        UnitFailed: what holds them can't be read.
    """
    if unit.kind == "files":
        yield _files(unit.names, prompts)
        return
    read = {"parquet": _of_parquet, "arrow": _of_arrow, "tar": _of_tar}[unit.kind]
    with TemporaryFile(prefix="agiqa-unit-") as spool:
        try:
            items = list(read(unit, spool, prompts))
        # pyarrow's errors are ValueErrors and OSErrors, zlib's and tarfile's their own.
        except (OSError, ValueError, EOFError, tarfile.TarError, CannotScore) as error:
            raise UnitFailed(f"{unit.source} can't be read: {error}") from error
        spool.flush()
        yield items


def _files(names: tuple[str, ...], prompts: Prompts) -> list[Item]:
    # Stores answer slowly, and many at once.
    with ThreadPoolExecutor(_REQUESTS) as pool:
        return list(pool.map(lambda name: _at(name, name, None, prompts), names))


def _at(name: str, place: str, known: str | None, prompts: Prompts) -> Item:
    """An image that lies by itself: at an address, or as a file. One whose prompt can't be read is
    not scored as if there were none.
    """
    try:
        if is_address(place):
            return Item(Path(name), known or prompts.at_address(place), Remote(name, place))
        source = None if known else prompts.source
        ((item,), _) = with_prompts([Path(place)], source, known or prompts.for_all)
    except CannotScore as error:
        return Item(Path(name), None, _Unreadable(name, str(error)))
    return item


def _kept(spool: IO[bytes], name: str, data: bytes, prompt: str | None) -> Item:
    start = spool.tell()
    spool.write(data)
    return Item(Path(name), prompt, _Span(name, spool.fileno(), start, len(data)))


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns that a table has of ours; ``image`` is a struct of bytes and path."""

    path: str | None
    data: str | None
    image: str | None
    prompt: str | None

    @property
    def all(self) -> list[str]:
        """Those that are there."""
        return [name for name in (self.path, self.data, self.image, self.prompt) if name]


def columns_of(address: str, schema: Any) -> Columns:
    """Which columns of a ``pyarrow.Schema`` hold the images: ``path`` and ``bytes``, or the one
    that ``datasets`` writes, ``image`` before others.

    Raises:
        CannotScore: none does.
    """
    import pyarrow as pa

    def named(name: str) -> str | None:
        return name if name in schema.names else None

    structs = [
        field.name
        for field in schema
        if pa.types.is_struct(field.type) and "bytes" in {child.name for child in field.type}
    ]
    image = "image" if "image" in structs else next(iter(structs), None)
    columns = Columns(named("path"), named("bytes"), image, named("prompt"))
    if not (columns.path or columns.data or columns.image):
        raise CannotScore(
            f"{address} has no column path or bytes, and none with images as datasets writes them"
        )
    return columns


def _of_parquet(unit: Unit, spool: IO[bytes], prompts: Prompts) -> Iterator[Item]:
    import pyarrow.parquet as pq

    with opened(unit.source) as file, pq.ParquetFile(file) as table:
        columns = columns_of(unit.source, table.schema_arrow)
        groups, first = _groups(table.metadata, unit.start, unit.stop)
        batches = table.iter_batches(_ROWS_AT_ONCE, row_groups=groups, columns=columns.all)
        number = first
        for batch in batches:
            inside = slice(max(0, unit.start - number), max(0, unit.stop - number))
            for offset, row in list(enumerate(batch.to_pylist()))[inside]:
                yield _of_row(unit, number + offset, row, columns, spool, prompts)
            number += batch.num_rows


def _groups(metadata: Any, start: int, stop: int) -> tuple[list[int], int]:
    """The row groups that hold rows of a range, and the number of the first row in them."""
    groups: list[int] = []
    first, begins = 0, 0
    for group in range(metadata.num_row_groups):
        ends = begins + metadata.row_group(group).num_rows
        if begins < stop and ends > start:
            first = first if groups else begins
            groups.append(group)
        begins = ends
    return groups, first


def _of_arrow(unit: Unit, spool: IO[bytes], prompts: Prompts) -> Iterator[Item]:
    import pyarrow as pa

    with opened(unit.source) as file, pa.ipc.open_stream(file) as stream:
        columns = columns_of(unit.source, stream.schema)
        number = 0
        for record in stream:
            chosen = record.select(columns.all)
            for start in range(0, chosen.num_rows, _ROWS_AT_ONCE):
                for row in chosen.slice(start, _ROWS_AT_ONCE).to_pylist():
                    yield _of_row(unit, number, row, columns, spool, prompts)
                    number += 1


def _of_row(
    unit: Unit,
    number: int,
    row: dict[str, Any],
    columns: Columns,
    spool: IO[bytes],
    prompts: Prompts,
) -> Item:
    image = (row[columns.image] if columns.image else None) or {}
    data = (row[columns.data] if columns.data else None) or image.get("bytes")
    path = (row[columns.path] if columns.path else None) or image.get("path")
    known = row[columns.prompt] if columns.prompt else None
    if data is not None:
        prompt = known or prompts.of_bytes(data)
        return _kept(spool, path or f"{unit.source}#{number}", data, prompt)
    if not path:
        name = f"{unit.source}#{number}"
        why = "its row has neither bytes nor a path"
        return Item(Path(name), known or prompts.for_all, _Unreadable(name, why))
    return _at(path, _from(unit.source, path), known, prompts)


def _from(table: str, path: str) -> str:
    """Where a table's path leads: as it is, else as seen from the table's folder."""
    if is_address(path) or os.path.isabs(path):
        return path
    if not is_address(table) and os.path.exists(path):
        return path
    return f"{table.rpartition('/')[0] or '.'}/{path}"


def _of_tar(unit: Unit, spool: IO[bytes], prompts: Prompts) -> Iterator[Item]:
    """Members that are images; ``cat.txt`` is of ``cat.png``, before or behind it, as WebDataset
    lays samples out: those with one key lie together.
    """
    found: list[tuple[str, Item]] = []
    texts: dict[str, str] = {}
    with opened(unit.source) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
        for member in archive:
            hidden = PurePosixPath(member.name).name.startswith(".")
            content = archive.extractfile(member) if member.isfile() and not hidden else None
            if content is None:
                continue
            key, suffix = _key(member.name)
            if suffix in EXTENSIONS:
                data = content.read()
                prompt = prompts.of_bytes(data)
                found.append((key, _kept(spool, f"{unit.source}/{member.name}", data, prompt)))
            elif suffix == ".txt" and prompts.source == "beside":
                texts[key] = content.read().decode("utf-8-sig", "replace").strip()
    for key, item in found:
        yield Item(item.path, texts.get(key) or item.prompt, item.source)


def _key(name: str) -> tuple[str, str]:
    """Key and suffix of a member: what stands before the first dot of its file name, and the last
    suffix.
    """
    path = PurePosixPath(name)
    return str(path.with_name(path.name.partition(".")[0])), path.suffix.lower()
