"""Readers of PNG, BMP and GIF headers."""

from model.errors import UnreadableImage
from model.preprocess.headers.exif import orientation, xmp_orientation
from model.preprocess.headers.frame import Frame
from model.preprocess.headers.reader import BROKEN, Reader

_MOST_CHUNKS = 8000
_XMP = b"XML:com.adobe.xmp\0\0\0"  # uncompressed
_BMP_HEADERS = {40, 52, 56, 64, 108, 124}
# Of a decoded picture and its copy in another mode: 4 + 4.
_TWO_COPIES = 8.0


def png(reader: Reader) -> Frame:
    """PNG: size from IHDR; EXIF from the chunks before and behind the pixels."""
    if reader.bytes(0, 8) != b"\x89PNG\r\n\x1a\n" or reader.bytes(12, 4) != b"IHDR":
        raise UnreadableImage(BROKEN)
    width, height = reader.numbers(">II", 16)
    return Frame(width, height, width * height, _TWO_COPIES, _png_orientation(reader))


def _png_orientation(reader: Reader) -> int:
    at = 8
    exif: int | None = None
    xmp = 1
    for _ in range(_MOST_CHUNKS):
        if at + 12 > reader.size:
            break
        length = reader.number(">I", at)
        kind = reader.bytes(at + 4, 4)
        if kind == b"eXIf":
            exif = orientation(reader, at + 8)
        elif kind == b"iTXt" and length > 22 and reader.data[at + 8 : at + 28] == _XMP:
            xmp = xmp_orientation(reader, at + 8, length)
        elif kind == b"IEND":
            break
        at += 12 + length
    return xmp if exif is None else exif


def bmp(reader: Reader) -> Frame:
    """BMP, with every header that Pillow reads."""
    kind = reader.number("<I", 14)
    if kind == 12:
        width, height = reader.numbers("<HH", 18)
        return Frame(width, height, width * height, _TWO_COPIES)
    if kind not in _BMP_HEADERS:
        raise UnreadableImage(BROKEN)
    width, height = reader.numbers("<II", 18)
    if height >> 24 == 0xFF:  # rows from the top
        height = 2**32 - height
    return Frame(width, height, width * height, _TWO_COPIES)


def gif(reader: Reader) -> Frame:
    """GIF: the screen, grown to hold the first frame."""
    width, height = reader.numbers("<HH", 6)
    flags = reader.number("<B", 10)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while (block := reader.bytes(at, 1)) != b",":
        at += 1
        if block == b"!":
            at += 1
            while size := reader.number("<B", at):
                at += 1 + size
            at += 1
        elif block == b";":
            raise UnreadableImage(BROKEN)
    x, y, across, down = reader.numbers("<HHHH", at + 1)
    width = max(width, x + across)
    height = max(height, y + down)
    return Frame(width, height, width * height, _TWO_COPIES)
