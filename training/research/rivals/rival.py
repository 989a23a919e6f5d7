"""Rivals: scores of others for the same images, from pyiqa or from a table, measured alike.

    pyiqa:dbcnn            a metric of pyiqa without reference (``pip install 'agiqa[rivals]'``)
    scores.csv             a table with one column of scores; also .jsonl, and the .json report of
                           ``agiqa evaluate``
    scores.csv:niqe        its column ``niqe``
    scores.csv:niqe:lower  the same, lower = better (``scores.csv:lower`` without naming a column)
    ...@alignment          of any of them: compared with the opinion of alignment, not of quality;
                           ``pyiqa:clipscore``, which is given the prompts, needs not say so

Rivals score in units of their own, so their errors are measured after the VQEG logistic alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from tqdm import tqdm

from training.data.samples import Sample
from training.errors import RivalError
from training.evaluation.metrics import interval, krcc, plcc, plcc_vqeg, rmse_vqeg, srcc
from training.evaluation.results import opinions
from training.research.rivals.pyiqa_weights import OF_PROMPTS, TRAINED_ON
from training.research.rivals.score_cache import ScoreCache, digest
from training.research.rivals.score_table import parse_table

# With the share of the bootstrap's rounds: the fitted ones take some ten times as long.
_METRICS = {srcc: 1.0, plcc: 1.0, plcc_vqeg: 0.2, krcc: 1.0, rmse_vqeg: 0.2}


class Rival(Protocol):
    """Something that scores images."""

    @property
    def name(self) -> str:
        """How the command line names it."""
        ...

    @property
    def lower_better(self) -> bool:
        """Whether its scores fall with quality."""
        ...

    @property
    def target(self) -> str:
        """What it scores: "quality" or "alignment"."""
        ...

    @property
    def trained_on(self) -> tuple[str, ...] | None:
        """The data sets that it learned from; None: not known."""
        ...

    def predict(self, samples: Sequence[Sample]) -> list[float]:
        """One score per sample, in their order, in units of its own."""
        ...


@dataclass(frozen=True)
class RivalReport:
    """Figures of one rival: srcc, plcc, plcc_vqeg, krcc (positive = it agrees, whichever way it
    points) and rmse_vqeg, each with its 95 % bootstrap interval.

    ``predictions``: in the order of the samples, high = better. ``target``, ``trained_on``: as the
    rival says.
    """

    name: str
    figures: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    predictions: list[float]
    target: str = "quality"
    trained_on: tuple[str, ...] | None = None


def parse_rival(text: str, device: str = "auto") -> Rival:
    """The rival that ``--rival`` names; the forms are in the docstring of this module. No weights
    are loaded yet.

    Raises:
        RivalError: none of these forms; pyiqa is missing, or has no such metric; no such table, or
            no telling which of its columns holds the scores.
    """
    name, at, target = text.rpartition("@")
    if not (at and target in ("quality", "alignment")):
        name, target = text, ""
    if name.startswith("pyiqa:"):
        return PyiqaRival(name.removeprefix("pyiqa:"), device, target)
    if table := parse_table(name):
        return replace(table, name=text, target=target) if target else table
    raise RivalError(
        f"{text!r} names no rival: write pyiqa:NAME, FILE.csv or FILE.csv:COLUMN; behind it "
        "@alignment where it scores that"
    )


def measure_rival(rival: Rival, samples: Sequence[Sample], rounds: int = 1000) -> RivalReport:
    """Scores the samples and compares with their opinion scores of what the rival scores.
    ``rounds`` of the bootstrap; a fifth for the figures after the logistic, which is slow.

    Raises:
        RivalError: as ``oriented``; or the data set has no opinion of that.
    """
    mos, groups = opinions(samples, rival.target), [sample.group for sample in samples]
    if mos is None:
        raise RivalError(f"{rival.name} scores {rival.target}, of which the data has no opinions")
    predictions = oriented(rival, samples)
    figures = {f.__name__: f(predictions, mos) for f in _METRICS}
    intervals = {
        f.__name__: interval(f, predictions, mos, rounds=round(share * rounds), groups=groups)
        for f, share in _METRICS.items()
    }
    return RivalReport(rival.name, figures, intervals, predictions, rival.target, rival.trained_on)


def oriented(rival: Rival, samples: Sequence[Sample]) -> list[float]:
    """The rival's score of each sample, turned so that high = better.

    Raises:
        RivalError: the rival can't score an image, or answers with another number of scores.
    """
    scores = rival.predict(samples)
    if len(scores) != len(samples):
        raise RivalError(f"{rival.name}: {len(scores)} scores for {len(samples)} images")
    return [-score for score in scores] if rival.lower_better else scores


class PyiqaRival:
    """A no-reference metric of pyiqa, image by image from its file, with pyiqa's own decoding; one
    that compares with prompts is given each image's.

    The weights are loaded (and downloaded, by pyiqa) when they are first needed: scores are kept on
    disk (see ``ScoreCache``).
    """

    def __init__(self, metric: str, device: str = "auto", target: str = "") -> None:
        """Looks the metric up. ``target``: what it scores, "" for its own.

        Raises:
            RivalError: pyiqa is missing or broken, or has no such metric without reference.
        """
        self.name = f"pyiqa:{metric}"
        self._pyiqa = _import_pyiqa()
        self._key = metric
        self._device = device
        self._prompted = metric in OF_PROMPTS
        self.target = target or ("alignment" if self._prompted else "quality")
        self.trained_on = TRAINED_ON.get(metric)
        version = getattr(self._pyiqa, "__version__", "")
        self._cache = ScoreCache(f"pyiqa-{version}-{metric}")
        if metric not in (known := self._pyiqa.list_models(metric_mode="NR")):
            near = get_close_matches(metric, known, n=5, cutoff=0.4)
            if metric in self._pyiqa.list_models():
                raise RivalError(f"{metric} of pyiqa compares with a reference image")
            hint = f"; near: {', '.join(near)}" if near else ""
            raise RivalError(f"pyiqa has no metric {metric!r} without reference{hint}")

    @property
    def lower_better(self) -> bool:
        """As pyiqa says of its metric."""
        return bool(self._cache.get("lower_better", lambda: float(self._metric.lower_better)))

    def predict(self, samples: Sequence[Sample]) -> list[float]:
        """One score per sample.

        Raises:
            RivalError: the metric fails on an image (it is named), or gives no single number.
        """
        if self._prompted and not all(sample.prompt for sample in samples):
            raise RivalError(f"{self.name} compares with prompts, which these images have not")
        with torch.no_grad():
            return [self._kept(s) for s in tqdm(samples, desc=self.name, unit="image")]

    def _kept(self, sample: Sample) -> float:
        try:
            key = digest(sample.path, sample.prompt if self._prompted else None)
        except OSError:  # pyiqa will say what is wrong
            return self._score(sample)
        return self._cache.get(key, lambda: self._score(sample))

    def _score(self, sample: Sample) -> float:
        prompts = {"caption_list": [sample.prompt]} if self._prompted else {}
        try:
            score = float(self._metric(str(sample.path), **prompts).detach().item())
        except RivalError:
            raise
        except Exception as error:
            raise RivalError(f"{self.name} fails on {sample.path}: {error}") from error
        if not np.isfinite(score):
            raise RivalError(f"{self.name} scores {sample.path} as {score}")
        return score

    @cached_property
    def _metric(self) -> Any:
        device = None if self._device == "auto" else torch.device(self._device)
        try:  # downloads, so anything may come
            return self._pyiqa.create_metric(self._key, device=device)
        except Exception as error:
            raise RivalError(f"{self.name} can't be loaded: {error}") from error


def _import_pyiqa() -> Any:
    try:
        import pyiqa
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "pyiqa":
            raise RivalError("pyiqa is missing: pip install 'agiqa[rivals]'") from error
        raise RivalError(f"pyiqa can't be imported: {error}") from error
    return pyiqa
