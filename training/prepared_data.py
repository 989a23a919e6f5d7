"""What a run trains on: data sets read and divided, their pictures, and a fingerprint of it all."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from training.data.readers.liqe_labels import with_labels, with_parts
from training.data.samples import Sample
from training.engine.loop import Run
from training.engine.task import Task
from training.engine.validation import ValidationSet
from training.errors import DataError
from training.recipe import BackboneRecipe, MethodRecipe, Stage
from training.sampling.batches import Batches
from training.sampling.pictures import Pictures, Shelf
from training.splits.split import Parts, draw

AnyRecipe = BackboneRecipe | MethodRecipe


def read_sets(recipe: AnyRecipe) -> dict[str, list[Sample]]:
    """The rated images of each data set that are there, with LIQE's labels where the recipe names
    them, and then with the parts of LIQE's own split, if the recipe wants official ones.

    Raises:
        DataError: a set that is not as distributed.
    """
    sets = {}
    for name, data in recipe.sets.items():
        samples = data.read(recipe.data[name])
        if (labels := recipe.labels.get(name)) is not None:
            samples = with_labels(samples, labels)
            if recipe.split.kind == "official":
                samples = with_parts(samples, labels, recipe.split.round + 1)
        sets[name] = samples
    return sets


def require_folders(recipe: AnyRecipe) -> None:
    """Refuses folders that aren't there, before anything slow begins.

    Raises:
        DataError: names them all.
    """
    folders = (*recipe.data.values(), *recipe.labels.values())
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        raise DataError(f"there is no folder {' and no '.join(missing)}")


@dataclass(frozen=True)
class PreparedData:
    """``parts`` of the split by data set, the pictures, and a ``fingerprint`` of all samples and
    of where each went.
    """

    parts: dict[str, Parts]
    pictures: Pictures
    fingerprint: str

    @classmethod
    def prepare(
        cls, recipe: AnyRecipe, *, wholes: bool = True, shelf: Shelf | None = None
    ) -> "PreparedData":
        """Reads and divides the data, and decodes what training looks at (``wholes``: whole images
        too), unless an earlier run left it on the ``shelf``.

        Raises:
            DataError, LeakError: unusable data.
        """
        recipe.work.mkdir(parents=True, exist_ok=True)
        parts = {name: draw(recipe.split, samples) for name, samples in read_sets(recipe).items()}
        zooms = tuple(dict.fromkeys((1.0, *recipe.zooms))) if wholes else ()
        limit = round(recipe.cache_gib * 2**30)
        pictures = (shelf or Shelf()).pictures(recipe.crop_policy, zooms, limit)
        for divided in parts.values():
            pictures.warm(divided["train"])
        return cls(parts, pictures, data_fingerprint(parts))

    def run(
        self,
        recipe: AnyRecipe,
        stage: Stage,
        task: Task,
        seed: int,
        standing_on: str = "",
        validation_part: str = "validation",
    ) -> Run:
        """The engine's run of a stage: ``validation_part`` of every data set judges its epochs.

        It resumes only a run of the same settings and data that stood on the same weights
        (``standing_on``: a digest of them).
        """
        schedule = stage.schedule
        samples = [
            s for data, times in stage.data.items() for s in self.parts[data]["train"] * times
        ]
        batches = Batches(
            samples,
            self.pictures,
            size=schedule.batch,
            seed=seed,
            windows=schedule.windows,
            wholes=bool(self.pictures.zooms),
            degraded=schedule.degraded,
            often=schedule.degraded_often,
        )
        judged = [sample for parts in self.parts.values() for sample in parts[validation_part]]
        self.pictures.warm(judged)
        validation = ValidationSet(judged, self.pictures, schedule.validate_on == "every")
        settings = recipe.model_dump_json(exclude=NOT_SETTINGS)
        everything = f"{settings}{self.fingerprint}{standing_on}"
        fingerprint = hashlib.sha256(everything.encode()).hexdigest()
        return Run(
            stage.name,
            task,
            batches,
            validation,
            schedule,
            recipe.work,
            seed,
            fingerprint,
            recipe.device,
        )


# Of a recipe: what changes neither weights nor figures.
NOT_SETTINGS = {
    "out",
    "work",
    "data",
    "labels",
    "name",
    "about",
    "limits",
    "device",
    "cache_gib",
    "serve_policy",
}


def data_fingerprint(parts: Mapping[str, Mapping[str, Sequence[Sample]]]) -> str:
    """A digest of names, scores, labels and parts: another data set, another version of it, or
    another split has another.
    """
    rows = [
        (name, part, s.path.name, s.prompt, round(s.mos, 6), s.mos_align, s.scenes, s.distortion)
        for name, divided in parts.items()
        for part, samples in divided.items()
        for s in samples
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
