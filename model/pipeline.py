"""Many images through one scorer: files are read and decoded ahead of the network, in threads, and
rows of several images share a call of it.

    files -> [threads: decode, crops] -> room for so many bytes -> [batches of rows] -> Score

On a CPU in float32 several batches are computed side by side, each by a part of the cores.

Scores equal ``scorer.score`` up to rounding: ``forward`` treats every row alone.
"""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import torch

from model.config import Head
from model.core_share import SideBySide, calls_at_once, done
from model.decoding.cropping import Crop, crop_here, cropping
from model.decoding.decoder import DecodeLimits
from model.device_errors import is_out_of_memory
from model.errors import ImageError, ImageTooLarge, InferenceError, UnreadableImage
from model.preprocess.crops import Layout, gather
from model.preprocess.headers import read_header
from model.resources import usable_cores
from model.scorer import Scorer
from model.scores import Score

logger = logging.getLogger(__name__)

ROWS_ON_CPU, ROWS_ON_GPU = 64, 256
_AHEAD_BYTES = 512 * 2**20
_AHEAD_IMAGES = 64


class File(Protocol):
    """An image file, wherever its bytes lie; a ``Path`` is one."""

    def read_bytes(self) -> bytes:
        """Raises OSError where there is nothing to be read."""


@dataclass(frozen=True, slots=True)
class Computed:
    """An image's rows float32 [m, d], ready for ``scorer.reduce``."""

    layout: Layout
    rows: np.ndarray


@dataclass(frozen=True, slots=True)
class _Decoded:
    prompt: str | None
    layout: Layout
    crops: np.ndarray  # uint8 [n, 3, h, w]


_Decoding = Future[_Decoded | Exception]
_Computing = Future[list[Computed | Exception]]
_Batch = list[tuple[int, _Decoded | Exception]]


class Pipeline:
    """A scorer, fed with files.

    Args:
        scorer: of any method.
        threads: that read and decode; None: one per usable core, eight at most.
        rows: most rows of a call of the network; None: by the device.
        side_by_side: most calls of the network at once; None: by the device and dtype.
        ahead_bytes: of images and crops that may wait for the network.
        limits: decodes in processes of their own, as many as threads, each image within these;
            None: in the threads.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        threads: int | None = None,
        rows: int | None = None,
        side_by_side: int | None = None,
        ahead_bytes: int = _AHEAD_BYTES,
        limits: DecodeLimits | None = None,
    ) -> None:
        self.scorer = scorer
        self._threads = threads or min(8, usable_cores())
        self._calls = side_by_side or calls_at_once(scorer.device, scorer.dtype)
        at_once = ROWS_ON_CPU if scorer.device.type == "cpu" else ROWS_ON_GPU
        self._most = rows or max(1, at_once // self._calls)
        self._ahead_bytes = ahead_bytes
        self._limits = limits

    def score(
        self, files: Sequence[tuple[File, str | None]], heads: Sequence[Head] | None = None
    ) -> Generator[tuple[int, Score | Exception], None, None]:
        """The place and the Score of each file, in order; or why it has none, as ``compute``.

        Args:
            files: each with the prompt that the image was generated from.
            heads: None: all that apply to an image.
        """
        with closing(self.compute(files, heads)) as results:
            for number, result in results:
                if isinstance(result, Computed):
                    prompt = files[number][1]
                    yield number, self.scorer.reduce(result.rows, result.layout, prompt)
                else:
                    yield number, result

    def compute(
        self, files: Sequence[tuple[File, str | None]], heads: Sequence[Head] | None = None
    ) -> Generator[tuple[int, Computed | Exception], None, None]:
        """``score`` before ``scorer.reduce``: the rows of each image, or an error.

        ImageError: it can't be scored. OSError: its file can't be read. ValueError: the heads don't
        fit (no prompt for consistency, say), or the prompt is too long. InferenceError: the network
        fails on it, even alone.
        """
        crops = cropping(self._threads, self._limits) if self._limits else nullcontext(crop_here)
        with crops as crop, closing(self._compute(files, heads, crop)) as results:
            yield from results

    def _compute(
        self, files: Sequence[tuple[File, str | None]], heads: Sequence[Head] | None, crop: Crop
    ) -> Generator[tuple[int, Computed | Exception], None, None]:
        room = Room(self._ahead_bytes)
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        calls = SideBySide(min(self._calls, len(files)) or 1)
        begun: deque[tuple[_Batch, _Computing]] = deque()

        def decode(number: int, file: File, prompt: str | None) -> _Decoding:
            return pool.submit(self._decode, number, file, prompt, heads, room, crop)

        try:
            for batch in self._batches(files, decode, room, calls.count):
                good = [decoded for _, decoded in batch if isinstance(decoded, _Decoded)]
                if any(decoded.layout.row_cost > self._most for decoded in good):
                    # Alone, with all of the cores: several of these may not fit into the memory.
                    while begun:
                        yield from self._results(*begun.popleft())
                    yield from self._results(batch, done(self._forward(good)))
                    continue
                begun.append((batch, calls.submit(self._forward, good)))
                while len(begun) > calls.ahead:
                    yield from self._results(*begun.popleft())
            while begun:
                yield from self._results(*begun.popleft())
        finally:
            room.close()
            calls.close()
            # Who decodes in a process waits for no more than that process's end.
            pool.shutdown(wait=self._limits is not None, cancel_futures=True)

    def _batches(
        self,
        files: Sequence[tuple[File, str | None]],
        decode: Callable[[int, File, str | None], _Decoding],
        room: "Room",
        calls: int,
    ) -> Iterator[_Batch]:
        """The images in order, decoded, as the network is to have them together."""
        waiting: deque[tuple[int, _Decoding]] = deque()
        coming = enumerate(files)
        while True:
            for number, (file, prompt) in islice(coming, _AHEAD_IMAGES - len(waiting)):
                waiting.append((number, decode(number, file, prompt)))
            if not waiting:
                return
            # What is left in the end is shared out: no core has a last batch for itself.
            is_end = len(waiting) < _AHEAD_IMAGES
            images = math.ceil(len(waiting) / calls) if is_end else _AHEAD_IMAGES
            yield self._next_batch(waiting, room, images)

    def _decode(
        self,
        number: int,
        file: File,
        prompt: str | None,
        heads: Sequence[Head] | None,
        room: "Room",
        crop: Crop,
    ) -> _Decoded | Exception:
        """Runs in a thread; never raises on account of the image."""
        planner = self.scorer.planner
        try:
            chosen = planner.heads(heads, prompted=prompt is not None)
            if prompt and "consistency" in chosen:
                self.scorer.check_prompt(prompt)
            data = file.read_bytes()
            header = read_header(data, max_bytes=None)
            layout = planner.for_file(data).layout(header.width, header.height, chosen)
            room.enter(number, max(layout.nbytes, header.decode_bytes))
            return _Decoded(prompt, layout, crop(data, header, layout))
        except (ImageError, OSError, ValueError, RunEnded) as error:
            return error
        except MemoryError:
            return ImageTooLarge("There is not enough memory to decode the image.")
        except Exception:
            logger.exception("an image could not be decoded, in a way that nobody foresaw")
            return UnreadableImage("The image can't be decoded; save it as PNG or JPEG.")

    def _next_batch(
        self, waiting: deque[tuple[int, _Decoding]], room: "Room", images: int
    ) -> _Batch:
        """The next image, and those after it that fit in with it. Waits for them to be decoded:
        which rows share a call changes their rounding, and must not hang on who was faster today.
        """
        batch: _Batch = []
        cost, shape = 0, None
        while waiting and len(batch) < images:
            number, job = waiting[0]
            decoded = job.result()
            if isinstance(decoded, _Decoded):
                cost += decoded.layout.cost
                shape = shape or decoded.layout.shape
                if batch and (cost > self._most or decoded.layout.shape != shape):
                    break
            batch.append((number, decoded))
            waiting.popleft()
            room.leave(number)
        return batch

    def _results(
        self, batch: _Batch, computing: _Computing
    ) -> Generator[tuple[int, Computed | Exception], None, None]:
        computed = iter(computing.result())
        good = [decoded for _, decoded in batch if isinstance(decoded, _Decoded)]
        if prompts := [d.prompt for d in good if d.prompt and "consistency" in d.layout.heads]:
            self.scorer.embed(list(dict.fromkeys(prompts)))  # all in one call; reduce finds them
        for number, decoded in batch:
            yield number, decoded if isinstance(decoded, Exception) else next(computed)

    def _forward(self, batch: Sequence[_Decoded]) -> list[Computed | Exception]:
        """A batch that fails is halved; where the memory was too small, so are those to come."""
        if not batch:
            return []
        if len(batch) > 1 and sum(d.layout.cost for d in batch) > self._most:
            return self._forward_halves(batch)  # there was more memory when it was put together
        try:
            return self._forward_together(batch)
        except (RuntimeError, MemoryError) as error:
            short_of_memory = is_out_of_memory(error)
            if len(batch) == 1 and not (short_of_memory and self._most > 1):
                return [_failure(error)]
        # Outside of the handler, so that the error no longer holds on to the memory of the batch.
        if short_of_memory:
            torch.cuda.empty_cache()
            self._most = max(1, self._most // 2)
        return self._forward_halves(batch)

    def _forward_halves(self, batch: Sequence[_Decoded]) -> list[Computed | Exception]:
        middle = max(1, len(batch) // 2)
        return self._forward(batch[:middle]) + self._forward(batch[middle:])

    def _forward_together(self, batch: Sequence[_Decoded]) -> list[Computed | Exception]:
        if len(batch) == 1:
            (one,) = batch
            return [Computed(one.layout, self._forward_alone(one))]
        rows = self.scorer.forward(*gather((d.layout, d.crops, slice(None)) for d in batch))
        parts = np.split(rows, np.cumsum([d.layout.rows for d in batch])[:-1])
        return [Computed(d.layout, part) for d, part in zip(batch, parts, strict=True)]

    def _forward_alone(self, one: _Decoded) -> np.ndarray:
        """All rows of one image, at most ``self._most`` at a time, in equal parts."""
        count = one.layout.rows
        calls = math.ceil(count / max(1, self._most // one.layout.row_cost))
        step = math.ceil(count / calls)
        parts = [slice(first, first + step) for first in range(0, count, step)]
        return np.concatenate(
            [self.scorer.forward(*gather([(one.layout, one.crops, rows)])) for rows in parts]
        )


def _failure(error: Exception) -> InferenceError:
    # Made here, not where the error was caught: a frame of its traceback that holds this would
    # keep the memory of the batch alive until the garbage collector comes.
    failure = InferenceError("The model failed on this image; try another device, or another file.")
    failure.__cause__ = error
    return failure


class RunEnded(Exception):
    """Nobody waits for this image any more."""


class Room:
    """Bounds the bytes that are decoded ahead. The image that is wanted next always gets in, so
    that one larger than all the room does not wait for ever.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sizes: dict[int, int] = {}
        self._next = 0
        self._closed = False
        self._changed = threading.Condition()

    def enter(self, number: int, size: int) -> None:
        """Waits until there is room for image ``number``.

        Raises:
            RunEnded: it was closed meanwhile.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._may_enter(number, size))
            if self._closed:
                raise RunEnded
            self._sizes[number] = size

    def leave(self, number: int) -> None:
        """Image ``number`` has been taken; the next one is wanted."""
        with self._changed:
            self._sizes.pop(number, None)
            self._next = number + 1
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing is wanted any more; whoever waits raises."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _may_enter(self, number: int, size: int) -> bool:
        fits = sum(self._sizes.values()) + size <= self._limit
        return self._closed or number <= self._next or fits
