"""Data sets in miniature, in the exact layout; an image's look tells its score."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

SOURCES = ("AttnGAN_normal", "sd1.5_lowstep", "midjourney_normal")
HEADER = [
    "name",
    "prompt",
    "adj1",
    "adj2",
    "style",
    "mos_quality",
    "std_quality",
    "mos_align",
    "std_align",
]


def write_agiqa3k(folder: Path, prompts: int = 12, *, nested: bool = True, size: int = 64) -> Path:
    """Writes data.csv and the images; sharper patterns got better scores."""
    images = folder / "img" if nested else folder
    images.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with (folder / "data.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(HEADER)
        for number in range(prompts):
            for i, source in enumerate(SOURCES):
                name = f"{source}_{number:03}.jpg"
                noise = rng.integers(0, 256, (size, size, 3)).astype(float)
                shade = 60 * (i + 1) + noise / 8
                Image.fromarray(shade.astype(np.uint8)).save(images / name, quality=95)
                mos = 1.0 + 1.3 * i + rng.uniform(-0.2, 0.2)
                row = [name, f"prompt number {number}, {source}"[:16], "", "", "", mos, 0.5]
                table.writerow([*row, 4.5 - mos / 2, 0.5])
    return folder


LABELS = (
    ("realistic blur", "landscape"),
    ("other realistic", "human;indoor"),
    ("underexposure", "still_life;night;others"),
)


def write_live_challenge(folder: Path, images: int = 36, size: int = 64) -> Path:
    """Writes labels.csv and Images; brighter photographs got better scores."""
    (folder / "Images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "mos", "distortion", "scene"])
        for number in range(images):
            distortion, scene = LABELS[number % 3]
            mos = 20 + 20 * (number % 3) + rng.uniform(-5, 5)
            shade = 2 * mos + rng.integers(0, 60, (size, size, 3))
            name = f"Images/{number}.JPG"
            Image.fromarray(shade.astype(np.uint8)).save(folder / name, format="JPEG", quality=95)
            table.writerow([name, mos, distortion, scene])
    return folder
