"""What a run trains on: data sets read, split and decoded, and a fingerprint of it all."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from training.data.datasets import read_as
from training.data.samples import Sample
from training.data.splits import split_by_group
from training.data.views import Batches, Picture, load_pictures
from training.engine.loop import Run, Schedule, Task
from training.recipe import BackboneRecipe, MethodRecipe
from training.tuning.held import Held


@dataclass(frozen=True)
class Material:
    """By data set: the parts of its split, and the decoded pictures of its training part; ``held``
    are all validation images.
    """

    parts: dict[str, dict[str, list[Sample]]]
    pictures: dict[str, list[Picture]]
    held: Held
    fingerprint: str

    @classmethod
    def prepare(cls, recipe: BackboneRecipe | MethodRecipe) -> "Material":
        """Reads and splits the data, and decodes the parts that training looks at.

        Raises:
            DataError, LeakError: unusable data.
        """
        policy = recipe.crop_policy
        every = {name: read_as(name, recipe.folder(name)) for name in recipe.data}
        shares, seed = recipe.split.shares, recipe.split.seed
        parts = {name: split_by_group(s, shares, seed) for name, s in every.items()}
        pictures = {
            name: load_pictures(part["train"], policy, recipe.zooms) for name, part in parts.items()
        }
        validation = [sample for part in parts.values() for sample in part["validation"]]
        seen = load_pictures(validation, policy)
        held = Held.of(validation, seen, policy.size, recipe.normalisation)
        return cls(parts, pictures, held, data_fingerprint([s for e in every.values() for s in e]))

    def stage(
        self,
        recipe: BackboneRecipe | MethodRecipe,
        name: str,
        task: Task,
        schedule: Schedule,
        repeats: Mapping[str, int],
        seed: int,
        standing_on: str = "",
    ) -> Run:
        """A run of the engine over the sets in ``repeats``, each image so often an epoch.

        It resumes only a run of the same settings and data that stood on the same weights
        (``standing_on``: a digest of them).
        """
        samples, pictures = [], []
        for data, times in repeats.items():
            samples += self.parts[data]["train"] * times
            pictures += self.pictures[data] * times
        batches = Batches(
            samples,
            pictures,
            recipe.crop_policy,
            recipe.normalisation,
            size=schedule.batch,
            seed=seed,
            windows=schedule.windows,
        )
        settings = recipe.model_dump_json(exclude=_NOT_SETTINGS)
        everything = f"{settings}{self.fingerprint}{standing_on}"
        fingerprint = hashlib.sha256(everything.encode()).hexdigest()
        recipe.work.mkdir(parents=True, exist_ok=True)
        return Run(name, task, batches, schedule, recipe.work, seed, fingerprint)


# Of a recipe: what changes neither weights nor figures.
_NOT_SETTINGS = {"out", "work", "data", "name", "about", "limits"}


def data_fingerprint(samples: Sequence[Sample]) -> str:
    """A digest of names, scores and labels: another data set, or another version of it, has
    another.
    """
    rows = [
        (s.path.name, s.prompt, round(s.mos, 6), s.mos_align, s.scenes, s.distortion)
        for s in samples
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
