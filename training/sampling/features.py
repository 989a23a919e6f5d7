"""Features of whole images by a tower that does not learn: computed once of each image as it is and
mirrored, and then trained on for as many steps as a recipe has.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from accelerate import PartialState
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from tqdm import tqdm

from model.config import Normalisation
from model.methods.network import normalise
from model.store.files import write_atomically
from training.errors import DataError
from training.sampling.batches import Batch, Batches, batch_of
from training.sampling.pictures import Pictures

# Images in a file of features: what a killed run computes again, at most.
_IMAGES = 64


@runtime_checkable
class Encodes(Protocol):
    """A training whose image tower does not learn."""

    @property
    def tower(self) -> nn.Module:
        """The tower."""

    @property
    def width(self) -> int:
        """How many numbers a feature has."""

    def encode(self, pixels: Tensor) -> Tensor:
        """Features float32 [n, d] of normalised pixels [n, 3, h, w], without a gradient."""


class Features:
    """Features float32 [2, d] of images by path: as they are, and mirrored.

    Those of an image hang on its file, the tower, the size that it is looked at and the
    normalisation; whatever has the same ones is taken from the ``folder``, or from ``known`` (by
    the key of the last three, then by the digest of the file), which runs of a process share.
    """

    def __init__(
        self,
        folder: Path,
        encoder: Encodes,
        pictures: Pictures,
        normalisation: Normalisation,
        known: dict[str, dict[str, Tensor]],
    ) -> None:
        self._folder = folder
        self._encoder = encoder
        self._pictures = pictures
        self._normalisation = normalisation
        self._key = _key(encoder.tower, pictures, normalisation)
        self._known = known.setdefault(self._key, {})
        self._digests: dict[Path, str] = {}

    def __getitem__(self, path: Path) -> Tensor:
        """Those of an image that was computed."""
        return self._known[self._digests[path]]

    def compute(self, paths: Iterable[Path], here: PartialState) -> None:
        """Computes what is not there yet, and keeps it; the processes share the images.

        Raises:
            DataError: an unreadable image, by name.
        """
        wanted = list(dict.fromkeys(paths))
        with ThreadPoolExecutor() as pool:
            self._digests |= zip(wanted, pool.map(_digest, wanted), strict=True)
        self._load()
        by_digest = {self._digests[path]: path for path in wanted}
        missing = [path for digest, path in by_digest.items() if digest not in self._known]
        here.wait_for_everyone()  # all have seen the same ones missing
        mine = missing[here.process_index :: here.num_processes]
        self._encoder.tower.to(here.device)
        starts = range(0, len(mine), _IMAGES)
        for start in tqdm(starts, desc="features", unit=f"{_IMAGES} images", disable=not mine):
            self._add(mine[start : start + _IMAGES], here.device)
        here.wait_for_everyone()
        if here.num_processes > 1:
            self._load()

    def _add(self, paths: Sequence[Path], device: torch.device) -> None:
        computed: dict[str, Tensor] = {}
        with ThreadPoolExecutor() as pool:
            pictures = pool.map(self._pictures.__getitem__, paths)
            for path, picture in zip(paths, pictures, strict=True):
                plain = torch.from_numpy(picture.pixels.transpose(2, 0, 1).copy())
                pixels = torch.stack([plain, plain.flip(-1)]).to(device)
                z = self._encoder.encode(normalise(pixels, self._normalisation))
                computed[self._digests[path]] = z.cpu()
        self._known |= computed
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{self._key}-{next(iter(computed))}.safetensors"
        write_atomically(self._folder / name, save(computed))

    def _load(self) -> None:
        """What earlier runs left in the folder; a damaged file's images are computed again."""
        for file in sorted(self._folder.glob(f"{self._key}-*.safetensors")):
            if file.stem.rpartition("-")[2] not in self._known:
                try:
                    self._known |= load_file(file)
                except (SafetensorError, OSError):
                    file.unlink(missing_ok=True)


class FeatureBatches(Batches):
    """The batches of another one, each image by its features or those of its mirror image."""

    def __init__(self, plain: Batches, features: Features) -> None:
        super().__init__(
            plain.samples,
            plain.pictures,
            size=plain.size,
            seed=plain.seed,
            wholes=False,
            flips=plain.flips,
            order=plain.order,
        )
        self._features = torch.stack([features[sample.path] for sample in plain.samples])

    def _batch(self, order: np.ndarray, epoch: int, number: int) -> Batch:
        rows = order[number * self.size : (number + 1) * self.size]
        drawn = np.random.default_rng((self.seed, epoch, number)).random(self.size)
        flips = (drawn < self.flips).astype(int)
        mine = self.size // self.processes
        part = slice(self.rank * mine, (self.rank + 1) * mine)
        views = self._features[rows[part], flips[part]][:, None]
        return batch_of([self.samples[row] for row in rows], views)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path} can't be read ({error})") from error


def _key(tower: nn.Module, pictures: Pictures, normalisation: Normalisation) -> str:
    """A digest of what features hang on beside the image."""
    policy = pictures.policy
    looked = [policy.kind, policy.size, policy.max_side, normalisation.model_dump()]
    digest = hashlib.sha256(json.dumps(looked).encode())
    for name, value in sorted(tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
