"""Sets of photographs in miniature: whole tables in the exact layout, few images beside them.

Every writer draws ``images`` of the listed images, spread over the list; bright ones got good
scores.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xlwt
from PIL import Image
from scipy.io import savemat

LIVE_FOLDERS = {
    "jp2k": (227, 169),
    "jpeg": (233, 175),
    "wn": (174, 145),
    "gblur": (174, 145),
    "fastfading": (174, 145),
}
CSIQ_TYPES = ("AWGN", "BLUR", "contrast", "fnoise", "JPEG", "jpeg2000")
KONIQ_PARTS = ("training", "validation", "test")


def write_live(folder: Path, images: int = 10, size: int = 32) -> Path:
    """databaserelease2: five folders, refimgs, two .mat files; undistorted images come last in each
    folder.
    """
    names = [
        (f"{kind}/img{number}.bmp", number > distorted)
        for kind, (count, distorted) in LIVE_FOLDERS.items()
        for number in range(1, count + 1)
    ]
    quality = np.array([1.0 if whole else _quality(i) for i, (_, whole) in enumerate(names)])
    dmos = np.where([whole for _, whole in names], 0.0, -0.2 + 112 * (1 - quality))
    # The same number shows another reference in every folder.
    references = [
        f"reference{(number + 3 * place) % 29:02}.bmp"
        for place, (count, _) in enumerate(LIVE_FOLDERS.values())
        for number in range(1, count + 1)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    _save(
        folder / "dmos_realigned.mat",
        {
            "dmos_new": dmos[None],
            "dmos_std": np.ones_like(dmos)[None],
            "orgs": np.array([[whole for _, whole in names]], dtype=np.uint8),
        },
    )
    _save(folder / "refnames_all.mat", {"refnames_all": _cells(references)[None]})
    distorted = [(folder / n, q) for (n, whole), q in zip(names, quality, strict=True) if not whole]
    return _draw(folder, distorted, images, size)


def write_csiq(folder: Path, images: int = 10, size: int = 32) -> Path:
    """866 lines of csiq_label.txt: 30 references, 6 types, 5 levels, less 34 of contrast."""
    listed = [
        (reference, kind, level)
        for kind in CSIQ_TYPES
        for reference in range(30)
        for level in range(1, 6)
        if kind != "contrast" or level < 4 or (level == 4 and reference < 26)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "src_imgs").mkdir(exist_ok=True)
    lines, drawn = [], []
    for i, (reference, kind, level) in enumerate(listed):
        name = f"photo_{reference}.{kind}.{level}.png"
        lines.append(f"{name} {1 - _quality(i):.6f}\n")
        drawn.append((folder / "dst_imgs" / kind.lower() / name, _quality(i)))
    (folder / "csiq_label.txt").write_text("".join(lines))
    return _draw(folder, drawn, images, size)


def write_kadid10k(folder: Path, images: int = 10, size: int = 32) -> Path:
    """81 references, 25 distortions, 5 levels; the column "dmos" is better when high."""
    rows, drawn = [], []
    for i in range(81 * 25 * 5):
        reference, kind, level = i // 125 + 1, i // 5 % 25 + 1, i % 5 + 1
        name = f"I{reference:02}_{kind:02}_{level:02}.png"
        rows.append([name, f"I{reference:02}.png", round(1 + 4 * _quality(i), 2), 0.5])
        drawn.append((folder / "images" / name, _quality(i)))
    _write_csv(folder / "dmos.csv", ["dist_img", "ref_img", "dmos", "var"], rows)
    return _draw(folder, drawn, images, size)


def write_live_challenge_release(folder: Path, images: int = 10, size: int = 32) -> Path:
    """ChallengeDB_release: Data and Images; the first seven are of the observers' training."""
    names = [f"t{i}.bmp" for i in range(1, 8)]
    names += [f"{i}.{'bmp' if i % 3 else 'JPG'}" for i in range(1, 1163)]
    quality = np.array([_quality(i) for i in range(len(names))])
    data = folder / "Data"
    data.mkdir(parents=True, exist_ok=True)
    _save(data / "AllImages_release.mat", {"AllImages_release": _cells(names)[:, None]})
    _save(data / "AllMOS_release.mat", {"AllMOS_release": (3.4 + 89 * quality)[None]})
    _save(data / "AllStdDev_release.mat", {"AllStdDev_release": np.ones((1, len(names)))})
    drawn = [(folder / "Images" / n, q) for n, q in zip(names, quality, strict=True)]
    return _draw(folder, drawn[7:], images, size)


def write_bid(folder: Path, images: int = 10, size: int = 32) -> Path:
    """DatabaseGrades.xls with the grades of single observers behind their means."""
    folder.mkdir(parents=True, exist_ok=True)
    book = xlwt.Workbook()
    sheet = book.add_sheet("Grades")
    for column, title in enumerate(("Image Number", "Average Subjective Grade", "std", "Grade 1")):
        sheet.write(0, column, title)
    drawn = []
    for number in range(1, 587):
        quality = _quality(number)
        for column, cell in enumerate((number, 5 * quality, 0.7, round(5 * quality, 1))):
            sheet.write(number, column, cell)
        drawn.append((folder / f"DatabaseImage{number:04}.JPG", quality))
    book.save(str(folder / "DatabaseGrades.xls"))
    return _draw(folder, drawn, images, size)


def write_koniq10k(
    folder: Path, images: int = 10, size: int = 32, *, sets: bool = True, zscore: bool = True
) -> Path:
    """The table with the authors' split (MOS of 100), or the other one (MOS of 5)."""
    rows, drawn = [], []
    for i in range(10073):
        name, quality = f"{4470000 + i}.jpg", _quality(i)
        stars, hundred = 1 + 4 * quality, 3.9 + 84 * quality
        votes = [name, 0.1, 0.2, 0.4, 0.2, 0.1, 105]
        scores = [hundred, 0.55, KONIQ_PARTS[i % 3]] if sets else [stars, 0.55, hundred]
        rows.append(votes + (scores if sets or zscore else scores[:-1]))
        drawn.append((folder / "1024x768" / name, quality))
    header = ["image_name", "c1", "c2", "c3", "c4", "c5", "c_total", "MOS", "SD"]
    header += ["set"] if sets else ["MOS_zscore"] * zscore
    table = "koniq10k_distributions_sets" if sets else "koniq10k_scores_and_distributions"
    _write_csv(folder / f"{table}.csv", header, rows)
    return _draw(folder, drawn, images, size)


def write_liqe_labels(
    folder: Path, name: str, rows: Sequence[tuple[str, str, tuple[str, ...]]], split: int = 1
) -> Path:
    """``IQA_Database/{name}/splits2/{split}``: path, distortion and scenes of each image; every
    fifth row is of the test part, every fourth other one of the validation part.
    """
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for i, (path, distortion, scenes) in enumerate(rows):
        scores = [*scenes, "invalid", "invalid"][:3]
        part = "test" if i % 5 == 4 else "val" if i % 5 == 3 else "train"
        parts[part].append("\t".join([path, "50.5", distortion, *scores]) + "\n")
    place = folder / "IQA_Database" / name / "splits2" / str(split)
    place.mkdir(parents=True, exist_ok=True)
    for part, lines in parts.items():
        (place / f"{name.lower()}_{part}_clip.txt").write_text("".join(lines))
    return folder / "IQA_Database"


def _quality(number: int) -> float:
    """In [0, 1]; neighbours differ, and so do any two of a list."""
    return (number * 0.6180339887) % 1


def _save(path: Path, variables: dict[str, np.ndarray]) -> None:
    """As MATLAB 7 writes it: compressed."""
    savemat(path, variables, do_compression=True)


def _cells(names: Sequence[str]) -> np.ndarray:
    """What savemat writes as a cell array of character arrays."""
    cells = np.empty(len(names), dtype=object)
    cells[:] = list(names)
    return cells


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def _draw(folder: Path, listed: Sequence[tuple[Path, float]], images: int, size: int) -> Path:
    rng = np.random.default_rng(2)
    for i in range(images):
        path, quality = listed[i * len(listed) // images]
        path.parent.mkdir(parents=True, exist_ok=True)
        shade = 180 * quality + rng.integers(0, 60, (size, size, 3))
        Image.fromarray(shade.astype(np.uint8)).save(path)
    return folder
