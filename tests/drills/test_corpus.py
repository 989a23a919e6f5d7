"""The hostile corpus is what its names promise, and the same each time."""

import io
import itertools
import struct
import zlib

import pytest
from PIL import Image

from benchmarks.drills.corpus import bombs, containers, mutants, odd_files
from benchmarks.drills.corpus.sample import Hostile

BOMBS = bombs()
# Their readers refuse them, or know them by what comes later than the size.
UNREAD = ("avif", "png with a text", "png with a profile")


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.name)
def test_every_bomb_is_small_and_claims_the_size_that_it_is_meant_to(
    bomb: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert len(bomb.data) < 16 << 20
    if bomb.name.startswith(UNREAD):
        return
    width, height = opened(bomb.data).size
    if bomb.refused and "tile" not in bomb.name:
        assert width * height > 50e6
    else:
        assert width * height <= 50e6


def test_a_stream_of_zeros_that_was_put_together_is_whole() -> None:
    for count in (0, 1, 65521, (1 << 20) + 7, 3 << 20):
        assert zlib.decompress(containers.deflated_zeros(count)) == bytes(count)


@pytest.mark.parametrize(
    "data",
    [
        containers.png(40, 30),
        containers.png(40, 30, colour=6, interlaced=True),
        containers.png(40, 30, depth=16, colour=0),
        containers.tiled(64, 64, 80),
        containers.flat_jpeg(40, 30),
        containers.flat_jpeg(40, 30, 4),
        containers.progressive_jpeg(40, 30, 5),
        containers.webp(containers.riff(b"VP8L", containers.flat_vp8l(40, 30))),
        containers.animated_webp(40, 16),
        containers.gif(40, 1),
    ],
    ids=[
        *("png", "png interlaced", "png 16 bit", "tiff tile", "jpeg", "jpeg cmyk"),
        *("jpeg progressive", "webp lossless", "webp animated", "gif"),
    ],
)
def test_what_is_written_by_hand_decodes_where_it_is_small(data: bytes) -> None:
    opened(data).load()


def test_some_exif_can_be_read_and_not_be_written() -> None:
    found = {file.name: file.data for file in odd_files()}
    image = opened(found["jpeg, EXIF resolution unit that is a float"])
    exif = image.getexif()
    assert exif[0x0112] == 6
    with pytest.raises(struct.error):
        exif.tobytes()


def test_mutants_are_the_same_for_a_seed_and_others_for_another() -> None:
    first = list(mutants(300))
    assert first == list(mutants(300))
    assert first != list(mutants(300, seed=1))
    assert len(set(first)) > 250
    kinds = {data[:3] for data in itertools.islice(first, 300)}
    assert len(kinds) > 5
