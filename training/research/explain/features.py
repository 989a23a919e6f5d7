"""The papers' picture of semantic features: t-SNE of one feature per image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.manifold import TSNE
from torch.nn import functional as F
from tqdm import tqdm

from model.methods.consistency import pool_views
from training.data import datasets
from training.data.samples import Sample
from training.errors import DataError
from training.evaluation.evaluate import part_of
from training.research.explain.subject import Source, Subject

# What van der Maaten and Hinton (2008) call typical; fewer images have fewer neighbours.
_PERPLEXITY = 30.0
_FEWEST = 4


def samples_of(subject: Subject, folder: Path, part: str) -> list[Sample]:
    """The images of a data set's folder; ``part`` is a name of the checkpoint's split, or "all".

    Raises:
        DataError: no known data set, not the one that the checkpoint was trained on, or no such
            part.
    """
    return part_of(subject.config, datasets.read(folder), part)[part]


def semantic_feature(subject: Subject, image: Source) -> np.ndarray:
    """The image's class feature float32 [d] of the quality pass: the normalised mean over the
    normalised features of its views.
    """
    crops = subject.crops(image, "quality")
    with torch.inference_mode():
        features = subject.folded.class_features(crops.pixels).cpu()
    return pool_views(F.normalize(features, dim=-1)).numpy()


def semantic_features(subject: Subject, samples: Sequence[Sample]) -> np.ndarray:
    """``semantic_feature`` [n, d] of each sample, in order, with a progress bar."""
    progress = tqdm(samples, desc="features", unit="image")
    return np.stack([semantic_feature(subject, sample.path) for sample in progress])


def embed(features: np.ndarray, seed: int = 0) -> np.ndarray:
    """t-SNE of features [n, d] in the plane: float32 [n, 2], the same for the same features and
    seed.

    Raises:
        DataError: fewer than four images.
    """
    if len(features) < _FEWEST:
        raise DataError(f"t-SNE needs at least {_FEWEST} images; these are {len(features)}")
    perplexity = min(_PERPLEXITY, (len(features) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed)
    points: np.ndarray = tsne.fit_transform(features)
    return points
