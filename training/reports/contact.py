"""Contact sheets: the images behind the figures, the worst and the best."""

import io
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont, ImageOps

from model.errors import ImageError
from model.preprocess import images
from reporting.document import Figure

Row = Mapping[str, Any]
Picture = tuple[Path, str]

TILE = 224  # the longer side of a picture on the sheet, in pixels
_GAP, _LINE, _FONT = 12, 17, 13
_INK, _FAINT, _MISSING = "#1d1f21", "#6b7075", "#c4c7ca"
_QUALITY = 88


def extremes(rows: Sequence[Row], count: int, head: str, target: str) -> dict[str, list[Row]]:
    """By title the ``count`` rows that ``head`` puts furthest above ``target``, furthest below, and
    closest to it, the most extreme first. A row is never in two lists; ties go by the image's name.
    """
    ordered = sorted(rows, key=lambda row: (row[target] - row[head], row["image"]))
    over = [row for row in ordered if row[head] > row[target]][:count]
    under = [row for row in reversed(ordered) if row[head] < row[target]][:count]
    taken = {id(row) for row in (*over, *under)}
    left = [row for row in ordered if id(row) not in taken]
    best = sorted(left, key=lambda row: abs(row[target] - row[head]))[:count]
    return {"Most over-estimated": over, "Most under-estimated": under, "In best agreement": best}


def captioned(rows: Sequence[Row], head: str, target: str) -> list[Picture]:
    """The pictures of rows that tell their "path", each with its name, prediction and MOS."""
    return [
        (Path(row["path"]), f"{row['image']}\npredicted {row[head]:.3f}, MOS {row[target]:.3f}")
        for row in rows
        if row.get("path")
    ]


def contact_sheet(
    pictures: Sequence[Picture], title: str = "Contact sheet", *, columns: int = 4
) -> Figure:
    """The pictures in rows of ``columns``, each over its caption (a line of it on a line), as one
    JPEG. An image that can't be read becomes a grey tile that says so.

    Raises:
        ValueError: no pictures.
    """
    if not pictures:
        raise ValueError("a contact sheet needs a picture")
    lines = max(len(caption.splitlines()) for _, caption in pictures)
    step = (TILE + _GAP, TILE + _GAP + lines * _LINE + 4)
    wide, high = min(columns, len(pictures)), -(-len(pictures) // columns)
    sheet = Image.new("RGB", (wide * step[0] + _GAP, high * step[1] + _GAP), "white")
    for number, (path, caption) in enumerate(pictures):
        row, column = divmod(number, columns)
        _put(sheet, path, caption, (column * step[0] + _GAP, row * step[1] + _GAP))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    captions = "; ".join(" ".join(caption.split()) for _, caption in pictures)
    alt = f"{title}: {captions}."
    return Figure(title, f"{title}.", buffer.getvalue(), "jpeg", alt)


def _put(sheet: Image.Image, path: Path, caption: str, corner: tuple[int, int]) -> None:
    left, top = corner
    tile = _tile(path)
    sheet.paste(tile, (left + (TILE - tile.width) // 2, top + TILE - tile.height))
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(caption.splitlines()):
        place = (left, top + TILE + 4 + number * _LINE)
        draw.text(place, _fitted(line), _FAINT if number else _INK, _font())


def _tile(path: Path) -> Image.Image:
    try:
        return ImageOps.contain(images.read(path), (TILE, TILE), Image.Resampling.LANCZOS)
    except (ImageError, OSError, ValueError):  # a path with a null byte is a ValueError
        tile = Image.new("RGB", (TILE, TILE), _MISSING)
        ImageDraw.Draw(tile).text((TILE / 2, TILE / 2), "unreadable", _INK, _font(), anchor="mm")
        return tile


def _fitted(line: str) -> str:
    """The line, its middle left out if it would run into the next tile; no control characters."""
    line = "".join(c if unicodedata.category(c)[0] != "C" else "�" for c in line)
    font, keep = _font(), len(line)
    short = line
    while font.getlength(short) > TILE:
        keep -= 1
        short = f"{line[: -(-keep // 2)]}…{line[len(line) - keep // 2 :]}"
    return short


def _font() -> ImageFont.FreeTypeFont:
    # Matplotlib's own, which is there wherever plots are drawn and knows more than Latin letters.
    return ImageFont.truetype(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), _FONT)
