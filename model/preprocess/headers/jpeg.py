"""Reader of JPEG headers."""

from model.errors import UnreadableImage
from model.preprocess.headers.exif import orientation, xmp_orientation
from model.preprocess.headers.frame import Frame
from model.preprocess.headers.reader import BROKEN, Reader

# An ICC profile takes at most 255 segments, and a file seldom has 50 others before the picture.
_MOST_SEGMENTS = 1000
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_XMP = b"http://ns.adobe.com/xap/1.0/\0"


def jpeg(reader: Reader) -> Frame:
    """JPEG: walks the segments to the frame's header; the first EXIF data count."""
    at = 2
    exif: int | None = None
    found = False
    xmp = 1
    for _ in range(_MOST_SEGMENTS):
        at, marker = _marker(reader, at)
        if marker in _BARE:
            continue
        if marker in {0xD9, 0xDA}:
            raise UnreadableImage(BROKEN)
        if marker in _FRAMES:
            return _frame(reader, at, marker, xmp if exif is None else exif)
        length = reader.number(">H", at)
        if marker == 0xE1 and not found and reader.data[at + 2 : at + 8] == b"Exif\0\0":
            exif = orientation(reader, at + 2)
            found = True
        elif marker == 0xE1 and reader.data[at + 2 : at + 31] == _XMP:
            xmp = xmp_orientation(reader, at + 31, length - 31)
        at += max(2, length)
    raise UnreadableImage("The image's header has too many parts; save it as PNG or JPEG.")


def _marker(reader: Reader, at: int) -> tuple[int, int]:
    """Where the next marker's content starts, and which it is; bytes between are passed over."""
    while True:
        first, second = reader.bytes(at, 2)
        if first == 0xFF and second not in {0x00, 0xFF}:
            return at + 2, second
        at += 1


def _frame(reader: Reader, at: int, marker: int, turned: int) -> Frame:
    height, width, components = reader.numbers(">xxxHHB", at)
    if components not in {1, 3, 4}:
        raise UnreadableImage(BROKEN)
    steps = [reader.number("B", at + 9 + 3 * i) for i in range(components)]
    areas = [max(1, step >> 4) * max(1, step & 15) for step in steps]
    pixel_bytes = 8.0 if components > 1 else 5.0
    # libjpeg keeps the coefficients of every sample, and of a whole block of samples at least.
    if marker in _PROGRESSIVE or components > 1:
        coefficients = 2 * sum(areas) / max(areas)
        pixel_bytes = max(pixel_bytes, (4 if components > 1 else 1) + coefficients)
    return Frame(width, height, width * height, pixel_bytes, turned)
