"""The file formats' envelopes, written by hand: sizes that no encoder would write."""

import struct
import zlib
from collections.abc import Mapping, Sequence

_BLOCK = 1 << 20
_TYPES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 7: "s", 11: "f", 12: "d"}
# One tag's type and its values, a string of bytes, or raw bytes with a count of their own.
Entry = tuple[int, Sequence[float] | bytes]


def deflated_zeros(count: int) -> bytes:
    """A zlib stream of so many zeros, put together from one block's."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(_BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    whole, rest = divmod(count, _BLOCK)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    tail = packer.compress(bytes(rest)) + packer.flush()
    checksum = (count % 65521) << 16 | 1  # Adler-32 of zeros
    return b"\x78\x9c" + block * whole + tail + struct.pack(">I", checksum)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int,
    height: int,
    *,
    depth: int = 8,
    colour: int = 2,
    interlaced: bool = False,
    before: bytes = b"",
) -> bytes:
    """Black, or transparent; ``before``: chunks before the pixels."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = 1 + (width * channels * depth + 7) // 8
    # Adam7's passes hold a filter byte for each of their rows: a little more, never less.
    zeros = row * height + (2 * height if interlaced else 0)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    chunks = [png_chunk(b"IHDR", head), before]
    if colour == 3:
        chunks.append(png_chunk(b"PLTE", bytes(6)))
    chunks += [png_chunk(b"IDAT", deflated_zeros(zeros)), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def ifd(entries: Mapping[int, Entry], at: int, following: int = 0) -> bytes:
    """A TIFF directory (little endian) that stands at offset ``at``, its long values behind it."""
    after = at + 2 + 12 * len(entries) + 4
    rows, tail = b"", b""
    for tag, (kind, values) in sorted(entries.items()):
        raw, count = _values(kind, values)
        if len(raw) > 4:
            place = struct.pack("<I", after + len(tail))
            tail += raw + b"\0" * (len(raw) % 2)
        else:
            place = raw.ljust(4, b"\0")
        rows += struct.pack("<HHI", tag, kind, count) + place
    return struct.pack("<H", len(entries)) + rows + struct.pack("<I", following) + tail


def _values(kind: int, values: Sequence[float] | bytes) -> tuple[bytes, int]:
    if isinstance(values, bytes):
        return values, len(values)
    form = _TYPES[kind]
    raw = struct.pack(f"<{len(values)}{form[0]}", *values)
    return raw, len(values) // len(form)


def tiff(entries: Mapping[int, Entry], data: bytes = b"") -> bytes:
    """``data`` at offset 8, then the one directory."""
    at = 8 + len(data) + len(data) % 2
    head = struct.pack("<2sHI", b"II", 42, at)
    return (head + data).ljust(at, b"\0") + ifd(entries, at)


def tiled(width: int, height: int, tile: int) -> bytes:
    """Grey, in one deflated tile of ``tile`` x ``tile``, a multiple of 16."""
    data = deflated_zeros(tile * tile)
    entries: dict[int, Entry] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [8]),
        259: (3, [8]),
        262: (3, [1]),
        277: (3, [1]),
        322: (4, [tile]),
        323: (4, [tile]),
        324: (4, [8]),
        325: (4, [len(data)]),
    }
    return tiff(entries, data)


def stripped(width: int, height: int, data: bytes, *, compression: int = 1, **more: Entry) -> bytes:
    """Grey, in one strip; ``more``: further tags as ``t123=(type, values)``."""
    bits = 1 if compression in {2, 3, 4} else 8
    entries: dict[int, Entry] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits]),
        259: (3, [compression]),
        262: (3, [1]),
        273: (4, [8]),
        277: (3, [1]),
        278: (4, [height]),
        279: (4, [len(data)]),
    }
    entries |= {int(name[1:]): entry for name, entry in more.items()}
    return tiff(entries, data)


def exif(entries: Mapping[int, Entry]) -> bytes:
    """An EXIF block as JPEG's APP1 holds it."""
    return b"Exif\0\0" + struct.pack("<2sHI", b"II", 42, 8) + ifd(entries, 8)


def segment(marker: int, data: bytes = b"") -> bytes:
    """A JPEG segment."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def with_segments(jpeg: bytes, segments: bytes) -> bytes:
    """A JPEG with segments right after its start."""
    return jpeg[:2] + segments + jpeg[2:]


def _huffman(kind: int, symbol: int) -> bytes:
    """A table whose one symbol is the bit 0."""
    return segment(0xC4, bytes([kind, 1, *[0] * 15, symbol]))


def flat_jpeg(width: int, height: int, components: int = 1) -> bytes:
    """A baseline JPEG of one colour: two zero bits per block and component."""
    blocks = -(-width // 8) * -(-height // 8) * components
    scan = bytes([components, *(b for i in range(components) for b in (i + 1, 0)), 0, 63, 0])
    return (
        _jpeg_head(0xC0, width, height, components)
        + _huffman(0x00, 0)
        + _huffman(0x10, 0)
        + segment(0xDA, scan)
        + bytes(-(-2 * blocks // 8))
        + b"\xff\xd9"
    )


def progressive_jpeg(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG of scans that hold nothing, each of which is worked through block by
    block: 15 bits stand for 16 384 empty blocks.
    """
    blocks = -(-width // 8) * -(-height // 8)
    empty = bytes(-(-15 * -(-blocks // 16384) // 8))
    scan = segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + empty
    head = _jpeg_head(0xC2, width, height, 1) + _huffman(0x10, 0xE0)
    return head + scan * scans + b"\xff\xd9"


def _jpeg_head(kind: int, width: int, height: int, components: int) -> bytes:
    planes = b"".join(bytes([i + 1, 0x11, 0]) for i in range(components))
    return (
        b"\xff\xd8"
        + segment(0xDB, bytes([0]) + b"\x01" * 64)
        + segment(kind, struct.pack(">BHHB", 8, height, width, components) + planes)
    )


def riff(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def webp(chunks: bytes) -> bytes:
    return riff(b"RIFF", b"WEBP" + chunks)


def flat_vp8l(width: int, height: int) -> bytes:
    """A lossless bitstream of one colour: every code has one symbol, so a pixel takes no bits."""
    bits, at = 0, 0
    fields = [(0x2F, 8), (width - 1, 14), (height - 1, 14), (1, 1), (0, 3)]
    fields += [(0, 1), (0, 1), (0, 1)]  # no transform, no colour cache, no meta codes
    # Five codes: simple, of one symbol, which takes one bit and is 0.
    fields += [(1, 1), (0, 1), (0, 1), (0, 1)] * 5
    for value, width_in_bits in fields:
        bits |= value << at
        at += width_in_bits
    return bits.to_bytes(-(-at // 8) + 1, "little")


def webp_flags(flags: int, width: int, height: int) -> bytes:
    """The VP8X chunk: canvas size, and what the file holds (2 animation, 8 EXIF, 32 ICC)."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return riff(b"VP8X", bytes([flags, 0, 0, 0]) + size)


def animated_webp(canvas: int, frame: int) -> bytes:
    """A square canvas with a small frame on it."""
    place = bytes(6) + (frame - 1).to_bytes(3, "little") * 2 + (100).to_bytes(3, "little") + b"\0"
    image = riff(b"ANMF", place + riff(b"VP8L", flat_vp8l(frame, frame)))
    background = riff(b"ANIM", b"\xff\xff\xff\xff\0\0")
    return webp(webp_flags(0x12, canvas, canvas) + background + image)


def gif(canvas: int, frame: int) -> bytes:
    """A square canvas; the frame claims a size and holds one pixel."""
    head = b"GIF89a" + struct.pack("<HHBBB", canvas, canvas, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return head + b"," + struct.pack("<HHHHB", 0, 0, frame, frame, 0) + b"\x02\x02\x44\x01\0;"


def rle_bmp(width: int, height: int, data: bytes = b"\0\1") -> bytes:
    """A run-length coded bitmap; by default its data ends at once."""
    palette = bytes(1024)
    at = 14 + 40 + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    return struct.pack("<2sIHHI", b"BM", at + len(data), 0, 0, at) + info + palette + data
