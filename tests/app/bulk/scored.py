"""Runs of ``agiqa score`` for tests: on the bundled model, and on a scoring that only pretends."""

import csv
import hashlib
import os
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from click.testing import CliRunner, Result

from app.bulk.rows import Item, ModelFacts, Row, failed, scored
from app.cli.main import main
from model.config import HEADS
from tests.app.pictures import encoded, picture

MODEL = ModelFacts(
    name="pretender",
    revision="1",
    crop_policy="grid",
    heads=HEADS,
    score_range=(0.0, 5.0),
    method="none",
    backbone="own",
    trained_on=("nothing",),
    figures={"quality_srcc": 0.5, "quality_rmse": 0.2, "floor_quality_srcc": 0.4},
    intervals={"quality_srcc": (0.4, 0.6)},
    tested_on=7,
)


class Pretended:
    """Scores that follow from the path alone; ``codes`` fail by file name, and at the image
    ``stop_at`` an error is raised.
    """

    def __init__(
        self,
        model: ModelFacts = MODEL,
        codes: Mapping[str, str] | None = None,
        stop_at: int | None = None,
        stop: BaseException | None = None,
    ) -> None:
        self.model, self.codes = model, codes or {}
        self.stop_at, self.stop = stop_at, stop
        self.asked: list[str] = []

    def score(self, items: Sequence[Item]) -> Generator[Row, None, None]:
        """One row per item."""
        for number, item in enumerate(items):
            if number == self.stop_at:
                raise self.stop or KeyboardInterrupt
            self.asked.append(item.path.name)
            if code := self.codes.get(item.path.name):
                yield failed(item, self.model, code, f"It failed with {code}.")
            else:
                yield scored(item, self.model, self._answer(item))

    def _answer(self, item: Item) -> dict[str, object]:
        value = pretended_quality(item.path.name)
        answer: dict[str, object] = {"quality": value, "alignment": value / 2, "crops": 4}
        return answer | ({"consistency": 1 - value} if item.prompt else {})


def pretended_quality(name: str) -> float:
    """In [0, 1], by the file's name."""
    return round(int(hashlib.sha256(os.fsencode(name)).hexdigest()[:4], 16) / 65535, 6)


def agiqa(*arguments: object, given: bytes | None = None) -> Result:
    """Runs the command in this process."""
    return CliRunner().invoke(main, [str(a) for a in arguments], input=given)


def table(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, as text."""
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def image_folder(place: Path) -> Path:
    """Two images, one of them further down, and a file that is none."""
    images = place / "images"
    (images / "deeper").mkdir(parents=True)
    (images / "a.png").write_bytes(encoded(picture(seed=1)))
    (images / "deeper" / "b.jpg").write_bytes(encoded(picture(seed=2), "JPEG"))
    (images / "notes.txt").write_text("no image")
    return images


def empty_files(place: Path, *names: str) -> list[Path]:
    """Files that are images by their names only: enough where scoring is pretended."""
    files = [place / name for name in names]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return files
