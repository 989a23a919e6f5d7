"""What a run trains on: data sets read and divided, their pictures, and a fingerprint of it all."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.readers.liqe_labels import with_labels, with_parts
from training.data.samples import Sample
from training.engine.devices import processes
from training.engine.loop import Run
from training.engine.task import Task
from training.engine.validation import ValidationSet
from training.errors import DataError
from training.recipe import BackboneRecipe, MethodRecipe, Stage
from training.sampling.batches import Batches
from training.sampling.features import FeatureBatches, Features
from training.sampling.order import Order
from training.sampling.pictures import Pictures, Shelf
from training.splits.split import Parts, Split, draw

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
        labels = recipe.labels.get(name)
        sets[name] = samples if labels is None else labelled(samples, labels, recipe.split)
    return sets


def labelled(samples: list[Sample], labels: Path, split: Split | None) -> list[Sample]:
    """The samples with LIQE's scenes and distortions, and for an official split with the parts of
    LIQE's own, of which the images that it lacks are left out.

    Raises:
        DataError: label files that can't be read, or of another set.
    """
    samples = with_labels(samples, labels)
    if split is not None and split.kind == "official":
        return with_parts(samples, labels, split.round + 1)
    return samples


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
        cls,
        recipe: AnyRecipe,
        *,
        wholes: bool = True,
        shelf: Shelf | None = None,
        once: bool = False,
    ) -> "PreparedData":
        """Reads and divides the data, and decodes what training looks at (``wholes``: whole images
        too), unless an earlier run left it on the ``shelf``; what is looked at ``once`` waits.

        Raises:
            DataError, LeakError: unusable data.
        """
        recipe.work.mkdir(parents=True, exist_ok=True)
        parts = {name: draw(recipe.split, samples) for name, samples in read_sets(recipe).items()}
        zooms = tuple(dict.fromkeys((1.0, *recipe.zooms))) if wholes else ()
        limit = 0 if once else round(recipe.cache_gib * 2**30)
        pictures = (shelf or Shelf()).pictures(recipe.crop_policy, zooms, limit)
        for divided in () if once else parts.values():
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
        features: Features | None = None,
    ) -> Run:
        """The engine's run of a stage: ``validation_part`` of every data set judges its epochs. It
        trains on ``features`` of whole images where there are such.

        It resumes only a run of the same settings and data that stood on the same weights
        (``standing_on``: a digest of them).
        """
        schedule = stage.schedule
        samples = [
            sample
            for data, times in stage.data.items()
            for sample in self.parts[data]["train"] * (times * schedule.repeats)
        ]
        batches = Batches(
            samples,
            self.pictures,
            size=schedule.batch,
            seed=seed,
            windows=schedule.windows,
            wholes=bool(self.pictures.zooms),
            flips=schedule.flips,
            degraded=schedule.degraded,
            often=schedule.degraded_often,
            order=Order(samples, schedule.batch, schedule.steps, schedule.quotas),
        )
        judged = [sample for parts in self.parts.values() for sample in parts[validation_part]]
        if features is None:
            self.pictures.warm(judged)
        else:
            paths = [sample.path for sample in (*samples, *judged)]
            features.compute(paths, processes(recipe.device))
            batches = FeatureBatches(batches, features)
        every = schedule.validate_on == "every"
        validation = ValidationSet(judged, self.pictures, every, recipe.crop_policy, features)
        everything = f"{settings_json(recipe)}{self.fingerprint}{standing_on}"
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
    *("out", "work", "features", "data", "labels"),
    *("name", "about", "limits", "device", "cache_gib", "serve_policy"),
}


# Of a schedule: what changes memory and time alone. A run that lacked memory goes on with these.
_MEMORY_ALONE = {"accumulate", "checkpoint_activations"}


def settings_json(recipe: AnyRecipe) -> str:
    """The settings that change weights or figures."""
    stages = {"__all__": {"schedule": _MEMORY_ALONE}}
    nested: dict[str, Any] = {"schedule": _MEMORY_ALONE, "stages": stages, "words": {"folder"}}
    return recipe.model_dump_json(exclude=dict.fromkeys(NOT_SETTINGS, True) | nested)


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
