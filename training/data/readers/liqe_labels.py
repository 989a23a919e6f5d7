"""LIQE's labels of scenes and distortions (Zhang et al., CVPR 2023) for LIVE, CSIQ, KADID-10k, BID,
LIVE-Challenge and KonIQ-10k, and its splits of them.

Files ``IQA_Database/{set}/splits2/{1-10}/{name}_{train,val,test}_clip.txt``, six fields between
tabs: path, MOS, distortion, and three scenes, the later ones perhaps ``invalid``. Labels become the
names of MP-IQE (``training.data.readers.labels``).

Images go by their file name; LIVE's, which are numbered anew in every folder, by folder and name.

LIVE's 145 ``fastfading`` rows are left out: each carries the labels of the file with the same name
in ``wn`` ("white noise", and the scenes of another photograph). The set's own folder knows their
distortion, and the other images of the same reference their scenes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath, PurePosixPath

from training.data.readers.labels import PART_NAMES, distortion_named, scene_named
from training.data.samples import Sample
from training.errors import DataError

_FIELDS = 6
_NO_SCENE = "invalid"
_MISLABELLED = "fastfading"


@dataclass(frozen=True, slots=True)
class Labels:
    """What LIQE says of one image, under the names of MP-IQE."""

    scenes: tuple[str, ...]
    distortion: str


def read_labels(folder: Path) -> dict[str, Labels]:
    """The labels of all images in the label files anywhere below a folder, by the image's key
    (``key_of``).

    Raises:
        DataError: no label file, or a line that can't be read (file and line are named); a label
            that is unknown among them.
    """
    labels: dict[str, Labels] = {}
    for path in _files(folder, "*_clip.txt"):
        for where, image, fields in _lines(path):
            if image.parent.name != _MISLABELLED:
                labels.setdefault(key_of(image), _labels(where, fields))
    return labels


def read_parts(folder: Path, split: int) -> dict[str, str]:
    """The part ("train", "validation" or "test") of each image in LIQE's split 1 to 10, by the
    image's key (``key_of``).

    Raises:
        DataError: the split is not there, or a line can't be read.
    """
    parts: dict[str, str] = {}
    for suffix in ("train", "val", "test"):
        for path in _files(folder, f"{split}/*_{suffix}_clip.txt"):
            parts |= {key_of(image): PART_NAMES[suffix] for _, image, _ in _lines(path)}
    return parts


def with_labels(samples: Sequence[Sample], folder: Path) -> list[Sample]:
    """The samples with LIQE's scenes and distortions. A distortion that the set itself tells stays;
    an image without a label of its own has the scenes of its group's others, where those agree.

    Raises:
        DataError: as ``read_labels``, or no sample has a label.
    """
    labels = read_labels(folder)
    _refuse_strangers(samples, labels, folder)
    scenes = _scenes_of_groups(samples, labels)

    def labelled(sample: Sample) -> Sample:
        own = labels.get(key_of(sample.path))
        if own is None:
            return replace(sample, scenes=sample.scenes or scenes.get(sample.group, ()))
        return replace(sample, scenes=own.scenes, distortion=sample.distortion or own.distortion)

    return [labelled(sample) for sample in samples]


def with_parts(samples: Sequence[Sample], folder: Path, split: int) -> list[Sample]:
    """The samples that LIQE's split has, each with its part.

    Raises:
        DataError: as ``read_parts``, or the split has none of them.
    """
    parts = read_parts(folder, split)
    _refuse_strangers(samples, parts, folder)
    keyed = ((key_of(sample.path), sample) for sample in samples)
    return [replace(sample, part=parts[key]) for key, sample in keyed if key in parts]


def key_of(image: PurePath) -> str:
    """What tells an image apart from all others of the six sets, wherever it lies."""
    name = image.name.casefold()
    numbered = name.startswith("img") and name.endswith(".bmp")
    return f"{image.parent.name.casefold()}/{name}" if numbered else name


def _refuse_strangers(samples: Sequence[Sample], known: Mapping[str, object], folder: Path) -> None:
    if not any(key_of(sample.path) in known for sample in samples):
        sets = ", ".join(sorted({sample.dataset for sample in samples}))
        raise DataError(
            f"{folder} has {len(known)} images, but none of the {len(samples)} of {sets}: give the "
            "folder with LIQE's label files of this set"
        )


def _scenes_of_groups(
    samples: Sequence[Sample], labels: Mapping[str, Labels]
) -> dict[str, tuple[str, ...]]:
    """The scenes of each group whose labelled images agree on them."""
    seen: dict[str, set[tuple[str, ...]]] = {}
    for sample in samples:
        if own := labels.get(key_of(sample.path)):
            seen.setdefault(sample.group, set()).add(own.scenes)
    return {group: next(iter(scenes)) for group, scenes in seen.items() if len(scenes) == 1}


def _files(folder: Path, pattern: str) -> list[Path]:
    files = sorted(folder.rglob(pattern))
    if not files:
        raise DataError(f"{folder} has no {pattern}: take IQA_Database from zwx8981/LIQE on GitHub")
    return files


def _lines(path: Path) -> Iterator[tuple[str, PurePosixPath, list[str]]]:
    """Where each line stands, its image, and its six fields. Not by pandas, which takes a line that
    is short of fields for one whose last fields are empty.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text: {error}") from error
    for number, line in enumerate(lines, start=1):
        where, fields = f"{path} line {number}", line.split("\t")
        if len(fields) != _FIELDS:
            raise DataError(f"{where} has {len(fields)} fields between tabs, not {_FIELDS}")
        yield where, PurePosixPath(fields[0].replace("\\", "/")), fields


def _labels(where: str, fields: Sequence[str]) -> Labels:
    _, _, distortion, *scenes = fields
    try:
        named = tuple(scene_named(scene) for scene in scenes if scene != _NO_SCENE)
        return Labels(named, distortion_named(distortion))
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
