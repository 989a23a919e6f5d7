"""What the words stage reads: WordNet and ImageNet's classes as token ids."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from model.clip.tokenizer import Tokenizer
from training.data.wordnet import ImageNetClass, WordNet, imagenet_classes
from training.words.known import inflected

Ids = list[int]

TEMPLATES = ("", "", "", "a", "a photo of", "a photo of a", "a picture of", "a painting of")
JOINTS = (",", ",", "and", "with", "in", "on", "and a", "with a", "")
# Ancestors and senses of a word that are compared when false negatives are sought.
_MOST = 16
# An ancestor of more classes than this says nothing of any.
_WIDEST = 200
_NONE = -1


class Lexicon:
    """Token ids, without start and end, of all texts; cut at ``length``.

    ``held_out``: positions of rare concepts, no class among them, that are not learned.
    ``ancestors`` [concepts, 16]: positions, nearest first, -1 behind them.
    """

    def __init__(self, wordnet: WordNet, length: int, held_out: int, seed: int) -> None:
        self.wordnet = wordnet
        self.length = length
        self._tokenizer = Tokenizer()
        self._lemmas: dict[str, Ids] = {}
        concepts = tqdm(wordnet.concepts, desc="WordNet", unit="concept")
        self.glosses = [self.ids(concept.definition) for concept in concepts]
        self.examples = [[self.ids(e) for e in c.examples] for c in wordnet.concepts]
        self.templates = [self.ids(text) for text in TEMPLATES]
        self.joints = [self.ids(text) for text in JOINTS]
        self.classes = imagenet_classes(wordnet)
        self.ancestors = _padded([wordnet.ancestors(p) for p in range(len(wordnet.concepts))])
        self.held_out = self._hold_out(held_out, seed)
        self.above, self.below = self._above_classes()

    def ids(self, text: str) -> Ids:
        """Of any text."""
        return self._tokenizer(text)[: self.length]

    def lemma(self, lemma: str) -> Ids:
        """Of a lemma, remembered."""
        if lemma not in self._lemmas:
            self._lemmas[lemma] = self.ids(lemma)
        return self._lemmas[lemma]

    def rank(self, lemma: str, position: int) -> int:
        """Of a concept among the senses of its lemma."""
        senses = self.wordnet.senses.get(lemma.lower(), ())
        return senses.index(position) if position in senses else len(senses)

    def senses(self, lemmas: Sequence[str]) -> Tensor:
        """[n, 16] positions of the concepts that each lemma names, -1 behind them."""
        return _padded([self.wordnet.senses.get(lemma.lower(), ()) for lemma in lemmas])

    def documents(self) -> list[Ids]:
        """For LSA: each learned concept's lemmas twice, gloss, and the lemmas above it."""
        kept = set(range(len(self.glosses))) - set(self.held_out)
        return [self._document(position) for position in sorted(kept)]

    def _document(self, position: int) -> Ids:
        concepts = self.wordnet.concepts
        own = [t for lemma in concepts[position].lemmas for t in self.lemma(lemma)]
        higher = [p for p in self.ancestors[position].tolist() if p != _NONE]
        above = [t for p in higher for lemma in concepts[p].lemmas for t in self.lemma(lemma)]
        return [*own, *own, *self.glosses[position], *above]

    def _hold_out(self, wanted: int, seed: int) -> list[int]:
        mapped = {c.concept for c in self.classes}
        rare = [
            p for p in range(len(self.glosses)) if p not in self.wordnet.common and p not in mapped
        ]
        # A tenth at most, so that a small database is learned all the same.
        count = min(wanted, len(rare) // 10)
        order = np.random.default_rng([seed, 1]).permutation(len(rare))[:count]
        return sorted(rare[i] for i in order)

    def _above_classes(self) -> tuple[list[list[int]], dict[int, list[int]]]:
        """Each class's telling ancestors, and each ancestor's classes."""
        above = [self._own_and_above(c)[1:] for c in self.classes]
        below: dict[int, list[int]] = {}
        for number, ancestors in enumerate(above):
            for position in ancestors:
                below.setdefault(position, []).append(number)
        for number, own in enumerate(self.classes):
            if own.concept in below:  # a class that is another's hypernym
                below[own.concept].append(number)
        telling = [[p for p in ancestors if len(below[p]) <= _WIDEST] for ancestors in above]
        return telling, below

    def _own_and_above(self, own: ImageNetClass) -> list[int]:
        return [] if own.concept is None else [own.concept, *self.wordnet.ancestors(own.concept)]


def plain_words(wordnet: WordNet, classes: Sequence[ImageNetClass]) -> list[tuple[str, str]]:
    """(lemma, part) of what is met in texts and of the classes: the words of bags."""
    concepts = wordnet.concepts
    common = {(concepts[p].lemmas[0], concepts[p].part) for p in wordnet.common}
    return sorted(common | {(c.lemmas[0], "n") for c in classes})


def form(lemma: str, part: str, generator: np.random.Generator) -> str:
    """The lemma, one time in five as plural or participle."""
    return inflected(lemma, part) if generator.random() < 0.2 else lemma


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    padded = torch.full((len(rows), _MOST), _NONE, dtype=torch.int32)
    for row, own in enumerate(rows):
        if own:
            padded[row, : min(_MOST, len(own))] = torch.tensor(own[:_MOST], dtype=torch.int32)
    return padded
