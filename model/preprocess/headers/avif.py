"""Reader of AVIF headers."""

from collections.abc import Iterator

from model.errors import UnreadableImage
from model.preprocess.headers.frame import Frame
from model.preprocess.headers.reader import BROKEN, Reader

Box = tuple[bytes, int, int]  # its type, and where its content starts and ends

# Planes of up to 16 bits with the decoder's reference copies, RGBA, its bytes, Pillow's image.
_PIXEL_BYTES = 20.0
_UPRIGHT = (1, 8, 3, 6)  # by quarter turns against the clock
_MIRRORED = ((4, 5, 2, 7), (2, 7, 4, 5))  # by the mirror's axis, then by quarter turns


def avif(reader: Reader) -> Frame:
    """AVIF: the primary item's size and turns, or the first track's where it is a sequence."""
    major = reader.bytes(8, 4)
    if major == b"avis":
        width, height = _track(reader)
        return Frame(width, height, width * height, _PIXEL_BYTES)
    _, start, end = _child(reader, 0, reader.size, b"meta")
    start += 4
    _, at, _ = _child(reader, start, end, b"pitm")
    wide = reader.number("B", at)
    item = reader.number(">I" if wide else ">H", at + 4)
    _, start, end = _child(reader, start, end, b"iprp")
    _, first, last = _child(reader, start, end, b"ipco")
    properties = list(_boxes(reader, first, last))
    _, at, _ = _child(reader, start, end, b"ipma")
    own = [properties[i - 1] for i in _associated(reader, at, item) if 0 < i <= len(properties)]
    return _frame(reader, own)


def _frame(reader: Reader, own: list[Box]) -> Frame:
    places = {kind: at for kind, at, _ in own}
    if b"ispe" not in places:
        raise UnreadableImage(BROKEN)
    width, height = reader.numbers(">II", places[b"ispe"] + 4)
    quarters = reader.number("B", places[b"irot"]) & 3 if b"irot" in places else 0
    turned = _UPRIGHT[quarters]
    if b"imir" in places:
        turned = _MIRRORED[reader.number("B", places[b"imir"]) & 1][quarters]
    return Frame(width, height, width * height, _PIXEL_BYTES, turned)


def _associated(reader: Reader, at: int, item: int) -> list[int]:
    """Numbers of the properties that the item has."""
    version_flags = reader.number(">I", at)
    wide_item = version_flags >> 24 > 0
    wide_index = version_flags & 1
    count = reader.number(">I", at + 4)
    at += 8
    for _ in range(count):  # each step looks at the file, whose looks are bounded
        number = reader.number(">I" if wide_item else ">H", at)
        at += 4 if wide_item else 2
        own = reader.number("B", at)
        step = 2 if wide_index else 1
        if number == item:
            mask, layout = (0x7FFF, ">H") if wide_index else (0x7F, "B")
            return [reader.number(layout, at + 1 + step * i) & mask for i in range(own)]
        at += 1 + step * own
    raise UnreadableImage(BROKEN)


def _track(reader: Reader) -> tuple[int, int]:
    _, start, end = _child(reader, 0, reader.size, b"moov")
    for kind, first, last in _boxes(reader, start, end):
        if kind == b"trak":
            _, at, stop = _child(reader, first, last, b"tkhd")
            width, height = (side >> 16 for side in reader.numbers(">II", stop - 8))
            if width and height and at < stop:
                return width, height
    raise UnreadableImage(BROKEN)


def _child(reader: Reader, start: int, end: int, wanted: bytes) -> Box:
    for box in _boxes(reader, start, end):
        if box[0] == wanted:
            return box
    raise UnreadableImage(BROKEN)


def _boxes(reader: Reader, at: int, end: int) -> Iterator[Box]:
    while at + 8 <= end:
        size = reader.number(">I", at)
        kind = reader.bytes(at + 4, 4)
        head = 8
        if size == 1:
            size = reader.number(">Q", at + 8)
            head = 16
        stop = end if size == 0 else at + size
        if size and size < head:
            raise UnreadableImage(BROKEN)
        yield kind, at + head, min(stop, end)
        at = stop
