"""Which experiments make up each table of the papers, and which published cells are printed with
them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from model.config import Head
from training.research.published import Published, published, rivals

Kind = Literal[
    "rounds", "ablation", "prompt-length", "data-efficiency", "cross-dataset", "without-training"
]


@dataclass(frozen=True)
class Part:
    """An experiment on a built-in recipe. ``tests`` are foreign sets that every model is measured
    on; ``rounds``: how many at most, where the recipe's split has no more.
    """

    kind: Kind
    recipe: str
    tests: tuple[str, ...] = ()
    rounds: int | None = None


@dataclass(frozen=True)
class PaperTable:
    """A table to reproduce. ``number`` is the MP-IQE paper's of the rows that are printed; where it
    is empty, what was published on the ``sets`` is. ``heads`` are the scores that get a table of
    their own; ``mean``: the paper gives means over the rounds, not medians.
    """

    name: str
    title: str
    parts: tuple[Part, ...]
    number: str = ""
    sets: tuple[str, ...] = ()
    heads: tuple[Head, ...] = ("quality",)
    mean: bool = False

    def published(self, head: Head) -> list[Published]:
        """The cells that the table is printed with."""
        if self.number:
            return published(table=self.number)
        return [cell for name in self.sets for cell in rivals(name, head)]


_MP_IQE_SETS = ("live", "csiq", "kadid-10k", "live-challenge", "bid", "koniq-10k")
_AGIQA = ("AGIQA-3K", "AIGCIQA2023")


def _parts(kind: Kind, method: str, *sets: str) -> tuple[Part, ...]:
    return tuple(Part(kind, f"{method}/{name}") for name in sets)


TABLES: Mapping[str, PaperTable] = {
    table.name: table
    for table in (
        PaperTable(
            "clip-agiqa",
            "CLIP-AGIQA on generated images, beside what others published",
            _parts("rounds", "clip-agiqa", "agiqa-3k", "aigciqa2023"),
            sets=_AGIQA,
            heads=("quality", "alignment"),
            mean=True,
        ),
        PaperTable(
            "clip-agiqa-ablation",
            "CLIP-AGIQA's own switches, and the lengths of its prompts",
            (
                *_parts("ablation", "clip-agiqa", "agiqa-3k"),
                *_parts("prompt-length", "clip-agiqa", "agiqa-3k"),
            ),
            mean=True,
        ),
        PaperTable(
            "mp-iqe-1",
            "MP-IQE, table 1: six sets",
            _parts("rounds", "mp-iqe", *_MP_IQE_SETS),
            number="1",
        ),
        PaperTable(
            "mp-iqe-2",
            "MP-IQE, table 2: beside CLIP-IQA, which learns nothing, and CLIP-IQA+",
            (
                *_parts("without-training", "clip-iqa-plus", "live-challenge"),
                Part("without-training", "clip-iqa-plus/koniq-10k", rounds=1),
                *_parts("rounds", "clip-iqa-plus", "live-challenge"),
                Part("rounds", "clip-iqa-plus/koniq-10k", rounds=1),
                *_parts("rounds", "mp-iqe", "live-challenge", "koniq-10k"),
            ),
            number="2",
        ),
        PaperTable(
            "mp-iqe-3",
            "MP-IQE, table 3: trained on one set, tested on another",
            (
                Part("cross-dataset", "mp-iqe/live-challenge", ("KonIQ-10k",)),
                Part("cross-dataset", "mp-iqe/koniq-10k", ("LIVE-Challenge",)),
                Part("cross-dataset", "mp-iqe/live", ("CSIQ",)),
                Part("cross-dataset", "mp-iqe/csiq", ("LIVE",)),
            ),
            number="3",
        ),
        PaperTable(
            "mp-iqe-4",
            "MP-IQE, table 4: without its parts",
            _parts("ablation", "mp-iqe", "csiq", "live-challenge"),
            number="4",
        ),
        PaperTable(
            "mp-iqe-5",
            "MP-IQE, table 5: less data to train on",
            _parts("data-efficiency", "mp-iqe", "live", "live-challenge"),
            number="5",
        ),
        PaperTable(
            "mp-iqe-6",
            "MP-IQE, table 6: lengths of the prompts",
            _parts("prompt-length", "mp-iqe", "live", "csiq"),
            number="6",
        ),
        PaperTable(
            "liqe",
            "LIQE on six sets at once, beside table 1 of MP-IQE",
            (Part("rounds", "liqe/six-sets"),),
            number="1",
        ),
    )
}
