"""Scoring on this machine: files are read and decoded ahead of the network, in threads, and rows of
several images share a call of it.

    files -> [threads: decode, crops] -> room for so many bytes -> [here: batches of rows] -> rows

Scores equal ``scorer.score`` up to rounding: ``forward`` treats every row alone.
"""

import math
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from app.offline.rows import Item, ModelFacts, Row, failed, scored
from model import images
from model.config import Head
from model.crops import Layout
from model.errors import ImageError

if TYPE_CHECKING:
    from model.scorer import Scorer

ROWS_ON_CPU, ROWS_ON_GPU = 64, 256
_AHEAD_BYTES = 512 * 2**20
_AHEAD_IMAGES = 64
_ANY_SIZE = 2**40  # the limit of bytes is the service's


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image that is ready for the network, or why it is not (``code``, ``detail``)."""

    number: int
    item: Item
    heads: tuple[Head, ...] = ()
    layout: Layout | None = None
    crops: np.ndarray | None = None  # uint8 [n, 3, h, w]
    code: str | None = None
    detail: str = ""

    def ready(self) -> tuple[Layout, np.ndarray]:
        """Its rows and its crops.

        Raises:
            ValueError: it has none, for it can't be scored.
        """
        if self.layout is None or self.crops is None:
            raise ValueError(f"{self.item.name} was not decoded: {self.detail}")
        return self.layout, self.crops


class LocalScoring:
    """A scorer, fed with files.

    Args:
        scorer: of any method.
        model: what rows say of it.
        heads: None: all that apply to an image.
        threads: that read and decode; None: as many as there are cores, eight at most.
        rows: most rows of a call of the network; None: by the device.
    """

    def __init__(
        self,
        scorer: "Scorer",
        model: ModelFacts,
        heads: Sequence[Head] | None = None,
        *,
        threads: int | None = None,
        rows: int | None = None,
    ) -> None:
        self.model = model
        self._scorer, self._heads = scorer, heads
        self._threads = threads or min(8, os.cpu_count() or 1)
        self._most = rows or (ROWS_ON_CPU if scorer.device.type == "cpu" else ROWS_ON_GPU)

    def score(self, items: Sequence[Item]) -> Iterator[Row]:
        """One row per item, in order."""
        room = Room(_AHEAD_BYTES)
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        waiting: deque[Future[Decoded]] = deque()
        coming = iter(enumerate(items))
        try:
            while True:
                for number, item in coming:
                    waiting.append(pool.submit(self._decode, number, item, room))
                    if len(waiting) >= _AHEAD_IMAGES:
                        break
                if not waiting:
                    return
                batch = self._next_batch(waiting, room)
                yield from self._score_batch(batch)
        finally:
            room.close()
            pool.shutdown(wait=False, cancel_futures=True)

    def _decode(self, number: int, item: Item, room: "Room") -> Decoded:
        """Runs in a thread; never raises on account of the image."""
        try:
            heads = self._scorer.planner.heads(self._heads, prompted=item.prompt is not None)
            data = item.path.read_bytes()
            header = images.read_header(data, max_bytes=_ANY_SIZE)
            layout = self._scorer.planner.layout(header.width, header.height, heads)
            cut = layout.crops * 3 * math.prod(layout.shape)
            room.enter(number, max(cut, 4 * header.width * header.height))
            crops = self._scorer.planner.crops(images.decode(data), heads)
            return Decoded(number, item, heads, layout, crops)
        except ImageError as error:
            code, detail = error.code, str(error)
        except OSError as error:
            code, detail = "unreadable_file", f"The file can't be read: {error.strerror or error}."
        except ValueError as error:
            code, detail = "bad_field", str(error)
        except MemoryError:
            code, detail = "too_large", "There is not enough memory to decode the image."
        return Decoded(number, item, code=code, detail=detail)

    def _next_batch(self, waiting: "deque[Future[Decoded]]", room: "Room") -> list[Decoded]:
        """The next image, and those after it that are decoded by now and fit in with it: the
        network never waits for a batch to fill.
        """
        batch: list[Decoded] = []
        rows, shape = 0, None
        while waiting:
            if batch and not waiting[0].done():
                break
            decoded = waiting[0].result()
            if decoded.layout is not None:
                rows += len(decoded.layout.row_crop) * decoded.layout.row_cost
                shape = shape or decoded.layout.shape
                if batch and (rows > self._most or decoded.layout.shape != shape):
                    break
            batch.append(decoded)
            waiting.popleft()
            room.leave(decoded.number)
        return batch

    def _score_batch(self, batch: Sequence[Decoded]) -> Iterator[Row]:
        good = [decoded for decoded in batch if decoded.code is None]
        rows = dict(zip((d.number for d in good), self._forward(good), strict=True))
        if prompts := [d.item.prompt for d in good if d.item.prompt and "consistency" in d.heads]:
            self._scorer.embed(list(dict.fromkeys(prompts)))  # all in one call; reduce finds them
        for decoded in batch:
            result = rows.get(decoded.number)
            if decoded.code is not None:
                yield failed(decoded.item, self.model, decoded.code, decoded.detail)
            elif result is None:
                detail = "The model failed on this image; try another device, or another file."
                yield failed(decoded.item, self.model, "inference_failed", detail)
            else:
                score = self._scorer.reduce(result, decoded.item.prompt, decoded.heads)
                yield scored(decoded.item, self.model, asdict(score))

    def _forward(self, batch: Sequence[Decoded]) -> list[np.ndarray | None]:
        """Float32 rows of each image; None for one that the network fails on even alone. A batch
        that fails is halved; where the memory was too small, so are the ones to come.
        """
        if not batch:
            return []
        try:
            return list(self._forward_together(batch))
        except RuntimeError as error:  # torch's out-of-memory error is one
            short_of_memory = "out of memory" in str(error).lower()
            if short_of_memory and self._most > 1:
                self._most //= 2
            elif len(batch) == 1:
                return [None]
        middle = max(1, len(batch) // 2)
        return self._forward(batch[:middle]) + self._forward(batch[middle:])

    def _forward_together(self, batch: Sequence[Decoded]) -> Iterator[np.ndarray]:
        ready = [decoded.ready() for decoded in batch]
        if len(batch) == 1:
            yield self._forward_alone(*ready[0])
            return
        starts = np.cumsum([0, *(len(crops) for _, crops in ready)])
        row_crop = [
            start + crop
            for start, (layout, _) in zip(starts, ready, strict=False)
            for crop in layout.row_crop
        ]
        row_pass = [which for layout, _ in ready for which in layout.row_pass]
        rows = self._scorer.forward(np.concatenate([c for _, c in ready]), row_crop, row_pass)
        ends = np.cumsum([len(layout.row_crop) for layout, _ in ready])
        yield from np.split(rows, ends[:-1])

    def _forward_alone(self, layout: Layout, crops: np.ndarray) -> np.ndarray:
        """All rows of one image, at most ``self._most`` at a time, in equal parts."""
        count = len(layout.row_crop)
        calls = math.ceil(count / max(1, self._most // layout.row_cost))
        if calls == 1:
            return self._scorer.forward(crops, layout.row_crop, layout.row_pass)
        step, parts = math.ceil(count / calls), []
        for first in range(0, count, step):
            wanted = layout.row_crop[first : first + step]
            used, row_crop = np.unique(wanted, return_inverse=True)
            row_pass = layout.row_pass[first : first + step]
            parts.append(self._scorer.forward(crops[used], row_crop.tolist(), row_pass))
        return np.concatenate(parts)


class Room:
    """Bounds the bytes that are decoded ahead. The image that is wanted next always gets in, so
    that one larger than all the room does not wait for ever.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[int, int] = {}
        self._next = 0
        self._closed = False
        self._changed = threading.Condition()

    def enter(self, number: int, size: int) -> None:
        """Waits until there is room for image ``number``.

        Raises:
            RuntimeError: it was closed meanwhile.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._may_enter(number, size))
            if self._closed:
                raise RuntimeError("the run has ended")
            self._held[number] = size

    def leave(self, number: int) -> None:
        """Image ``number`` has been taken; the next one is wanted."""
        with self._changed:
            self._held.pop(number, None)
            self._next = number + 1
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing is wanted any more; whoever waits raises."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _may_enter(self, number: int, size: int) -> bool:
        fits = sum(self._held.values()) + size <= self._limit
        return self._closed or number <= self._next or fits
