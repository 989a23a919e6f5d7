"""Sets of generated images in miniature, in the layout of their distribution."""

from pathlib import Path

import numpy as np
import openpyxl
from PIL import Image
from scipy.io import savemat

from training.data.readers import aigciqa2023

TWICE = "dreamStudio_8_9_1_1.jpg"


def write_image(path: Path, shade: int, size: tuple[int, int] = (40, 32)) -> None:
    """One plain picture of ``size`` (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 255 - shade, 40)).save(path)


def write_agiqa1k(folder: Path, *, images: str = "file") -> Path:
    """The sheet and its images: one object by both services, another by one, and the image that is
    listed twice.
    """
    names = [f"{who}_0_3_{place}_0.jpg" for who in ("deepai", "dreamStudio") for place in (0, 1)]
    names += ["deepai_11_14_0_1.jpg", TWICE, TWICE]
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["Image", "Prompt", "MOS"])
    for number, name in enumerate(names):
        sheet.append([name, f"prompt of {name[:-4]}, ", 0.5 + number / 2])
        write_image(folder / images / name, 30 * number)
    book.save(folder / "AIGC_MOS_Zscore.xlsx")
    return folder


def write_aigciqa2023(folder: Path, *, flat: bool = False, prompts: int = 2) -> Path:
    """All scores and all 100 prompts, and the images of the first prompts."""
    scores = folder if flat else folder / "DATA" / "MOS"
    images = folder / "allimg" if flat else folder / "Image" / "allimg"
    scores.mkdir(parents=True, exist_ok=True)
    numbers = np.arange(2400)
    for file, start in (("mosz1", 30), ("mosz2", 40), ("mosz3", 27)):
        savemat(scores / f"{file}.mat", {"MOSz": (start + numbers / 100)[:, None]})
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for number in range(aigciqa2023.PROMPTS):
        sheet.append(["Basic", "Color", f"prompt {number}", "a thing", "kind", "calm"])
    book.save(folder / "AIGCIQA2023_Prompts.xlsx")
    for number in numbers[numbers % 400 < 4 * prompts]:
        write_image(images / f"{number}.png", int(number) % 256)
    return folder


def write_table(folder: Path, text: str, name: str = "mine.csv") -> Path:
    """A CSV of these lines, and the images of its first column that has no number."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    for row, line in enumerate(text.splitlines()[1:]):
        images = (cell for cell in line.split(",") if cell.endswith((".png", ".jpg", ".bmp")))
        for image in images:
            write_image((folder / name).parent / image, 20 * row)
    return folder
