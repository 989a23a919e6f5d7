"""A row per image: what it was scored with, and the result."""

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from model.config import HEADS, Head

Row = dict[str, Any]

# The first six are fixed; scripts read them by place.
COLUMNS = (
    *("path", *HEADS, "code", "detail"),
    *("prompt", "mos", "crops", "scene", "distortion", "model", "revision", "crop_policy"),
)
# What a column holds where it is no text; every cell may be None.
NUMBERS: dict[str, type] = dict.fromkeys((*HEADS, "mos"), float) | {"crops": int}
# Rows with these are tried again by --resume: the image had no part in it, or is mended by now.
PASSING_CODES = {
    *("overloaded", "loading", "draining", "worker_down", "deadline", "client_gone", "unreachable"),
    *("internal", "unauthorized", "unreadable_file", "bad_field"),
}
_DIGITS = 6  # as the service rounds


class Source(Protocol):
    """Where the bytes of an image are that is no file of this machine."""

    @property
    def name(self) -> str:
        """What rows call the image."""

    def read_bytes(self) -> bytes:
        """Raises OSError where there is nothing to be read."""


@dataclass(frozen=True, slots=True)
class Item:
    """An image to score; ``prompt`` None: none is known; ``source`` None: a file at ``path``."""

    path: Path
    prompt: str | None = None
    source: Source | None = None

    @property
    def name(self) -> str:
        r"""The path as OUT has it: text that any file can hold, what is no UTF-8 as ``\xe9``."""
        name = self.source.name if self.source else self.path
        return os.fsencode(name).decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The model behind the scores, as far as rows and the report tell of it.

    ``figures`` are measured ones by name, ``intervals`` their 95 % intervals where known,
    ``tested_on`` how many images they were measured on.
    """

    name: str
    revision: str
    crop_policy: str
    heads: tuple[Head, ...]
    score_range: tuple[float, float]
    method: str = ""
    backbone: str = ""
    trained_on: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    tested_on: int | None = None

    @classmethod
    def of(
        cls, described: Mapping[str, Any], measured: Mapping[str, Any] = MappingProxyType({})
    ) -> "ModelFacts":
        """From a model as ``GET /models`` describes it, and from its ``metrics.json``."""
        low, high = described["score_range"]
        return cls(
            name=described["name"],
            revision=described["revision"],
            crop_policy=described["crop_policy"]["kind"],
            heads=tuple(head for head in HEADS if head in described["heads"]),
            score_range=(low, high),
            method=described["method"],
            backbone=described["backbone"],
            trained_on=tuple(described["trained_on"]),
            figures=described["metrics"],
            intervals=measured.get("intervals", {}),
            tested_on=measured.get("images"),
        )


def is_special(path: Path) -> bool:
    """Whether there is something else than a file: reading a pipe or a device might never end."""
    return path.exists() and not path.is_file()


class Scoring(Protocol):
    """Something that scores: this machine, or a service."""

    @property
    def model(self) -> ModelFacts:
        """The model behind it."""

    def score(self, items: Sequence[Item]) -> Generator[Row, None, None]:
        """One row per item, in order; closing it gives up what is under way."""


def row_of_each(scoring: Scoring, items: Sequence[Item]) -> Generator[Row, None, None]:
    """A row per item, in order; nobody reads what is no regular file."""
    special = {item.name for item in items if item.source is None and is_special(item.path)}
    with closing(scoring.score([item for item in items if item.name not in special])) as answers:
        for item in items:
            if item.name in special:
                detail = "It is no regular file; copy what it gives into one."
                yield failed(item, scoring.model, "unreadable_file", detail)
            else:
                yield next(answers)
        yield from answers  # none, but it may have to say why it ends


def scored(item: Item, model: ModelFacts, answer: Mapping[str, Any]) -> Row:
    """The row of an image with scores; ``answer`` holds heads, ``crops``, ``detail`` where there is
    something to be known of them, and ``scene`` and ``distortion`` as name -> probability where the
    model tells them.
    """
    row = _blank(item, model)
    row |= {head: _rounded(answer.get(head)) for head in HEADS}
    if row["quality"] is not None:
        low, high = model.score_range
        row["mos"] = round(low + row["quality"] * (high - low), 4)
    row["crops"] = answer.get("crops")
    if row["consistency"] is not None:  # all that a detail is about
        row["detail"] = answer.get("detail")
    for kind in ("scene", "distortion"):
        probabilities = answer.get(kind)
        row[kind] = max(probabilities, key=probabilities.get) if probabilities else None
    return row


def failed(item: Item, model: ModelFacts, code: str, detail: str) -> Row:
    """The row of an image that could not be scored."""
    return _blank(item, model) | {"code": code, "detail": detail}


def heads_for(
    model: ModelFacts, chosen: Sequence[Head] | None, *, prompted: bool
) -> tuple[Head, ...]:
    """The heads that an image gets: those chosen, or all that the model has (consistency: if
    prompted).
    """
    heads = model.heads if chosen is None else chosen
    return tuple(head for head in heads if head != "consistency" or prompted)


def _blank(item: Item, model: ModelFacts) -> Row:
    known = {
        "path": item.name,
        "prompt": item.prompt,
        "model": model.name,
        "revision": model.revision,
        "crop_policy": model.crop_policy,
    }
    return dict.fromkeys(COLUMNS) | known


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
