"""Reader of WebP headers."""

from model.errors import UnreadableImage
from model.preprocess.headers.exif import orientation, xmp_orientation
from model.preprocess.headers.frame import Frame
from model.preprocess.headers.reader import BROKEN, Reader

_MOST_CHUNKS = 4000
# The animation decoder's two canvases, the file's frame, its bytes and Pillow's image.
_PIXEL_BYTES = 20.0


def webp(reader: Reader) -> Frame:
    """WebP: the canvas, the first frame, and EXIF data wherever they stand."""
    kind = reader.bytes(12, 4)
    if kind != b"VP8X":
        width, height = _picture(reader, 12)
        return Frame(width, height, width * height, _PIXEL_BYTES)
    width, height = (1 + _number24(reader, at) for at in (24, 27))
    frame, exif, xmp = _chunks(reader)
    largest = max(width * height, frame)
    return Frame(width, height, largest, _PIXEL_BYTES, xmp if exif is None else exif)


def _chunks(reader: Reader) -> tuple[int, int | None, int]:
    """Pixels of the first frame, and the orientation by EXIF and by XMP."""
    at = 12
    frame = 0
    exif: int | None = None
    xmp = 1
    for _ in range(_MOST_CHUNKS):
        if at + 8 > reader.size:
            break
        kind = reader.bytes(at, 4)
        length = reader.number("<I", at + 4)
        if kind == b"ANMF" and not frame:
            frame = (1 + _number24(reader, at + 14)) * (1 + _number24(reader, at + 17))
        elif kind in {b"VP8 ", b"VP8L"} and not frame:
            width, height = _picture(reader, at)
            frame = width * height
        elif kind == b"EXIF":
            exif = orientation(reader, at + 8)
        elif kind == b"XMP ":
            xmp = xmp_orientation(reader, at + 8, length)
        at += 8 + length + (length & 1)
    return frame, exif, xmp


def _picture(reader: Reader, at: int) -> tuple[int, int]:
    kind = reader.bytes(at, 4)
    if kind == b"VP8 " and reader.bytes(at + 11, 3) == b"\x9d\x01\x2a":
        width, height = reader.numbers("<HH", at + 14)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and reader.bytes(at + 8, 1) == b"\x2f":
        packed = reader.number("<I", at + 9)
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    raise UnreadableImage(BROKEN)


def _number24(reader: Reader, at: int) -> int:
    low, high = reader.numbers("<HB", at)
    return low | high << 16
