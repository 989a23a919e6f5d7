"""The scorer that all servers share: a loaded model, and the two steps from uploads to scores."""

from collections.abc import Sequence

import numpy as np
import torch

import model
from benchmarks.peers.setups import CHECKPOINT, Setup
from model.config import Head
from model.decoding.cropping import crop_here
from model.preprocess.crops import Layout, gather
from model.preprocess.headers import read_header
from model.scorer import Scorer

_HEADS: tuple[Head, ...] = ("quality",)
# An image's crops uint8 [n, 3, h, w], and the layout that they were cut by.
Cropped = tuple[Layout, np.ndarray]


def load(setup: Setup) -> Scorer:
    """In a process that computes; its first, slow call of the network is done."""
    torch.set_num_threads(setup.threads)
    return model.load(CHECKPOINT, device="cpu", dtype=setup.dtype)


def cropped(scorer: Scorer, upload: bytes) -> Cropped:
    """Decodes an image and cuts its crops."""
    header = read_header(upload)
    layout = scorer.planner.for_file(upload).layout(header.width, header.height, _HEADS)
    return layout, crop_here(upload, header, layout)


def qualities(scorer: Scorer, images: Sequence[Cropped]) -> list[float]:
    """Of each image, from one call of the network; without gradients."""
    rows = scorer.forward(*gather((layout, crops, slice(None)) for layout, crops in images))
    parts = np.split(rows, np.cumsum([layout.rows for layout, _ in images])[:-1])
    scores = (scorer.reduce(part, layout) for (layout, _), part in zip(images, parts, strict=True))
    return [score.quality for score in scores if score.quality is not None]


def scored(scorer: Scorer, uploads: Sequence[bytes]) -> list[float]:
    """Both steps, for a server that has no place of its own for the first."""
    return qualities(scorer, [cropped(scorer, upload) for upload in uploads])
