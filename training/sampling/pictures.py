"""Decoded images as training sees them, kept in memory up to a limit.

Preprocessing is the service's own (``model.preprocess.images``, ``model.preprocess.crops``): the
size that the crop policy gives its windows, and the whole image squashed to one crop. What does not
fit into the limit is decoded again whenever it is used.
"""

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm import tqdm

from model.config import CropPolicy
from model.errors import ImageError
from model.preprocess import images
from model.preprocess.crops import pixels_of, squash
from model.preprocess.windows import file_digest, place_windows
from training.data.samples import Sample
from training.errors import DataError


@dataclass(frozen=True)
class Picture:
    """One decoded image: uint8 [h, w, 3] as the windows see it, and the whole image squashed to
    [3, s, s], first at the crop's size, then larger; no whole where none is wanted. ``digest`` is
    that of its file.
    """

    pixels: np.ndarray
    wholes: tuple[np.ndarray, ...]
    digest: bytes = b""

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return sum(array.nbytes for array in (self.pixels, *self.wholes))


class Pictures:
    """Pictures by path. ``zooms`` are the sizes of the squashed views, in crops; () for none.

    ``limit`` is the most that is kept, in bytes.
    """

    def __init__(
        self, policy: CropPolicy, zooms: Sequence[float] = (1.0,), limit: int = 4 * 2**30
    ) -> None:
        self.policy = policy
        self.zooms = tuple(zooms)
        self.limit = limit
        self._kept: dict[Path, Picture] = {}
        self._used = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many are in memory."""
        return len(self._kept)

    def __getitem__(self, path: Path) -> Picture:
        """The picture, decoded now if it is not in memory.

        Raises:
            DataError: an unreadable image, by name.
        """
        if (kept := self._kept.get(path)) is not None:
            return kept
        picture = self._decode(path)
        with self._lock:
            if path not in self._kept and self._used + picture.size <= self.limit:
                self._kept[path] = picture
                self._used += picture.size
        return picture

    def warm(self, samples: Iterable[Sample]) -> None:
        """Decodes images in threads, with a progress bar, until the limit is reached."""
        paths = [p for p in dict.fromkeys(s.path for s in samples) if p not in self._kept]
        with ThreadPoolExecutor() as pool:
            decode = pool.map(self._unless_full, paths)
            list(tqdm(decode, total=len(paths), desc="decode", unit="image", disable=not paths))

    def _unless_full(self, path: Path) -> None:
        # An average picture more would not fit: those that still come are decoded when used.
        if self.limit and self._used + self._used / max(1, len(self._kept)) <= self.limit:
            self[path]

    def _decode(self, path: Path) -> Picture:
        try:
            data = path.read_bytes()
            image = images.decode(data)
        except (OSError, ImageError) as error:
            raise DataError(
                f"{path} can't be read ({error}): replace it, or remove it from the set; "
                "agiqa data check names all such files"
            ) from error
        wholes = tuple(squash(image, round(self.policy.size * zoom)) for zoom in self.zooms)
        pixels = pixels_of(image, place_windows(self.policy, *image.size))
        return Picture(pixels, wholes, file_digest(data))


class Shelf:
    """Pictures that several runs of a process share, as far as they look at images alike, and
    ``features`` of images (``training.sampling.features``).
    """

    def __init__(self) -> None:
        self.features: dict[str, dict[str, Tensor]] = {}
        self._pictures: list[Pictures] = []

    def pictures(self, policy: CropPolicy, zooms: tuple[float, ...], limit: int) -> Pictures:
        """Those of an earlier run that has at least these views, or new ones."""
        for pictures in self._pictures:
            alike = _prepares(pictures.policy) == _prepares(policy)
            if alike and pictures.limit == limit and zooms in {(), pictures.zooms}:
                return pictures
        self._pictures.append(Pictures(policy, zooms, limit))
        return self._pictures[-1]


def _prepares(policy: CropPolicy) -> CropPolicy:
    """What of a policy changes the pictures: not where its windows lie."""
    return policy.model_copy(update={"seed": 0})
