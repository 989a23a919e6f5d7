"""The process that decodes, from outside: the same crops, and limits that hold."""

import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.config import CropPolicy
from model.decoding.decoder import CropDecoder, DecodeLimits, DecoderDied
from model.errors import ImageError, UnreadableImage
from model.preprocess import images
from model.preprocess.crops import Layout, cut
from model.preprocess.headers import Header, read_header
from model.preprocess.windows import place_windows

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
PLENTY = DecodeLimits(cpu_seconds=60)
GRID = CropPolicy()


@pytest.fixture(scope="module")
def decoder() -> Iterator[CropDecoder]:
    decoder = CropDecoder(PLENTY)
    yield decoder
    decoder.close()


def encoded(form: str, width: int = 500, height: int = 300, mode: str = "RGB") -> bytes:
    noise = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, form)
    return buffer.getvalue()


def layout_for(header: Header, policy: CropPolicy = GRID) -> Layout:
    grid = place_windows(policy, header.width, header.height)
    return Layout(grid, ("quality",), ((0, len(grid.windows) + 1),))


def crops(decoder: CropDecoder, data: bytes, policy: CropPolicy = GRID) -> np.ndarray:
    header = read_header(data)
    return decoder.crops(data, header, layout_for(header, policy))


def crops_here(data: bytes, policy: CropPolicy = GRID) -> np.ndarray:
    layout = layout_for(read_header(data), policy)
    out = np.empty(layout.array_shape, np.uint8)
    cut(images.decode(data), layout, out)
    return out


def pid(decoder: CropDecoder) -> int:
    decoder.start()
    assert decoder.pid
    return decoder.pid


def wait_until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        *(("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "RGBA")),
        *(("PNG", "P"), ("PNG", "I;16"), ("WEBP", "RGB"), ("WEBP", "RGBA"), ("BMP", "RGB")),
        *(("GIF", "P"), ("TIFF", "RGB"), ("TIFF", "CMYK"), ("TIFF", "F"), ("AVIF", "RGB")),
        ("AVIF", "RGBA"),
    ],
)
def test_its_crops_are_those_of_decoding_here_within_the_header_s_estimate(
    decoder: CropDecoder, form: str, mode: str
) -> None:
    # Its file of crops grows on the way; a narrow image is enlarged for its windows.
    for size in ((500, 300), (224, 224), (3000, 2000), (60, 2900)):
        data = encoded(form, *size, mode)
        assert (crops(decoder, data) == crops_here(data)).all()


@pytest.mark.parametrize("size", [(1500, 1000), (7000, 7000), (20000, 800)], ids=str)
def test_it_reduces_an_image_for_liqe_as_decoding_here_does(
    decoder: CropDecoder, size: tuple[int, int]
) -> None:
    data = encoded("JPEG", *size, "L")
    layout = layout_for(read_header(data), CropPolicy.liqe())
    assert layout.grid.bilinear
    assert (crops(decoder, data, CropPolicy.liqe()) == crops_here(data, CropPolicy.liqe())).all()


def test_an_image_that_cannot_be_decoded_says_why_and_harms_nothing(decoder: CropDecoder) -> None:
    before, whole = pid(decoder), encoded("JPEG")
    header = read_header(whole)
    with pytest.raises(UnreadableImage, match="broken or cut off"):
        decoder.crops(whole[: len(whole) // 2], header, layout_for(header))
    crops(decoder, whole)
    assert pid(decoder) == before


def test_the_file_that_images_come_by_keeps_what_the_next_one_needs_and_no_more() -> None:
    decoder = CropDecoder(PLENTY)
    file = decoder._decoder._inbox
    large, small = encoded("PNG", 1500, 1200), encoded("PNG", 40, 30)
    for data in (large, small, large):
        found = crops(decoder, data)  # none sees what is left of the one before
        assert (found == crops_here(data)).all()
        assert os.fstat(file).st_size > len(large)
    huge = encoded("BMP", 2600, 2300)
    assert len(huge) > 16 * 2**20
    crops(decoder, huge)
    assert os.fstat(file).st_size == 0
    decoder.close()


def test_too_much_processor_time_ends_the_process_and_another_takes_over() -> None:
    decoder = CropDecoder(DecodeLimits(cpu_seconds=0.001, cpu_seconds_per_megapixel=0))
    large = encoded("PNG", 3000, 2000)
    for _ in range(2):
        with pytest.raises(DecoderDied) as death:
            crops(decoder, large)
        assert death.value.reason == "cpu"
    decoder.close()


def test_more_memory_than_allowed_fails_the_image_alone() -> None:
    decoder = CropDecoder(DecodeLimits(cpu_seconds=60, memory=1 << 20))
    with pytest.raises(ImageError):
        crops(decoder, encoded("PNG", 6000, 4000))
    crops(decoder, encoded("PNG", 30, 20))
    decoder.close()


def struck(decoder: CropDecoder, number: signal.Signals) -> "Future[np.ndarray]":
    """Has an image cut, and sends the signal to the process that is at it."""
    data, victim = encoded("PNG"), pid(decoder)
    os.kill(victim, signal.SIGSTOP)  # so that it is at the image when it gets the signal
    with ThreadPoolExecutor(1) as threads:
        cropping = threads.submit(crops, decoder, data)
        wait_until(lambda: os.fstat(decoder._decoder._inbox).st_size > len(data))
        os.kill(victim, number)
        if number is not signal.SIGSTOP:
            os.kill(victim, signal.SIGCONT)
    return cropping


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda n: n.name)
def test_an_image_whose_process_is_ended_from_outside_is_tried_once_more(
    number: signal.Signals,
) -> None:
    deaths: list[str] = []
    decoder = CropDecoder(PLENTY, lambda reason, _: deaths.append(reason))
    assert struck(decoder, number).result(60).shape[0] > 1
    assert deaths == ["killed" if number is signal.SIGKILL else "stopped"]
    decoder.close()


def test_a_crash_costs_its_image_alone() -> None:
    decoder = CropDecoder(PLENTY)
    with pytest.raises(DecoderDied) as death:
        struck(decoder, signal.SIGSEGV).result(60)
    assert death.value.reason == "segfault"
    assert crops(decoder, encoded("PNG")).shape[0] > 1
    decoder.close()


def test_one_that_died_while_nobody_needed_it_is_replaced_without_a_word() -> None:
    decoder = CropDecoder(PLENTY)
    os.kill(pid(decoder), signal.SIGKILL)
    os.waitid(os.P_PID, decoder.pid or 0, os.WEXITED | os.WNOWAIT)
    assert crops(decoder, encoded("PNG")).shape[0] > 1
    decoder.close()


def test_what_libraries_write_reaches_nobody_s_log(
    decoder: CropDecoder, capfd: pytest.CaptureFixture[str]
) -> None:
    image = Image.open(io.BytesIO(encoded("TIFF", 64, 64, "1")))
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", compression="group4")
    data = bytearray(buffer.getvalue())
    data[8:40] = bytes(range(100, 132))  # libtiff has much to say about it
    with suppress(ImageError):
        crops(decoder, bytes(data))
    assert os.fstat(decoder._decoder._stderr).st_size > 0
    assert capfd.readouterr().err == ""


def test_a_closed_decoder_starts_no_more() -> None:
    decoder = CropDecoder(PLENTY)
    gone = pid(decoder)
    decoder.close()
    assert not Path(f"/proc/{gone}").exists()
    with pytest.raises(DecoderDied):
        decoder.start()
