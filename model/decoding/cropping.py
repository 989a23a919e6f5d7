"""From a file to its crops, here or in processes of their own."""

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from model.decoding.decoder import CropDecoder, DecodeLimits
from model.preprocess import images
from model.preprocess.crops import Layout, cut
from model.preprocess.headers import Header

# A file, its header, and the layout for the header's size, to crops uint8 [n, 3, h, w]. Raises
# ImageError.
Crop = Callable[[bytes, Header, Layout], np.ndarray]


def crop_here(data: bytes, header: Header, layout: Layout) -> np.ndarray:
    """In this process, for images of people who are trusted."""
    del header
    crops = np.empty(layout.array_shape, np.uint8)
    cut(images.decode(data), layout, crops)
    return crops


@contextmanager
def cropping(processes: int, limits: DecodeLimits) -> Iterator[Crop]:
    """In so many processes, each image within the limits; for as many threads."""
    decoders = [CropDecoder(limits) for _ in range(processes)]
    idle: queue.SimpleQueue[CropDecoder] = queue.SimpleQueue()
    for decoder in decoders:
        decoder.start()
        idle.put(decoder)

    def crop(data: bytes, header: Header, layout: Layout) -> np.ndarray:
        decoder = idle.get()
        try:
            return decoder.crops(data, header, layout)
        finally:
            idle.put(decoder)

    try:
        yield crop
    finally:
        for decoder in decoders:
            decoder.close()
