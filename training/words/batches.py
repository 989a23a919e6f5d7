"""Batches of concepts, classes and sentences of several words, drawn from (seed, epoch)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from training.words.recipe import WordsRecipe
from training.words.texts import Ids, Lexicon, form, plain_words

_T = TypeVar("_T")

_EXAMPLE = 0.2  # share of concepts that are shown by a sentence in place of their definition


@dataclass(frozen=True)
class Concepts:
    """n concepts: a lemma and a gloss each, and a lemma of a hypernym where there is one.

    ``positions`` [n] in WordNet; ``senses`` [n, 16] of the lemmas; ``above``: rows of the concepts
    whose hypernym's lemma is in ``hypernyms``, at ``hypernym_positions``.
    """

    positions: Tensor
    senses: Tensor
    lemmas: list[Ids]
    glosses: list[Ids]
    above: Tensor
    hypernyms: list[Ids]
    hypernym_positions: Tensor


@dataclass(frozen=True)
class Classes:
    """Texts, and the classes [n, 1000] that each of them fits."""

    texts: list[Ids]
    matches: Tensor


@dataclass(frozen=True)
class Bags:
    """Sentences of several words; ``members`` [bags, words] holds the share of each word."""

    words: list[Ids]
    texts: list[Ids]
    members: Tensor


@dataclass(frozen=True)
class WordsBatch:
    """What one step learns from."""

    concepts: Concepts
    classes: Classes
    bags: Bags


class WordsBatches:
    """The batches of an epoch, the same for the same seed and number.

    A concept is taken by one of its lemmas, and the rarer it is among that lemma's senses the less
    often: with probability 1 / (1 + rank).
    """

    def __init__(self, lexicon: Lexicon, recipe: WordsRecipe, seed: int) -> None:
        self.lexicon = lexicon
        self.recipe = recipe
        self.seed = seed
        held_out = set(lexicon.held_out)
        count = len(lexicon.glosses)
        self.learned = np.array([p for p in range(count) if p not in held_out])
        self.words = plain_words(lexicon.wordnet, lexicon.classes)

    def __len__(self) -> int:
        """Batches of an epoch at most."""
        return max(1, len(self.learned) // self.recipe.batch)

    def epoch(self, number: int) -> Iterator[WordsBatch]:
        """Batches of one epoch; what fills no batch is left out, unless it is all there is."""
        generator = np.random.default_rng([self.seed, 2, number])
        for rows in self._batches(generator):
            yield WordsBatch(
                self._concepts(rows, generator), self._classes(generator), self._bags(generator)
            )

    def _batches(self, generator: np.random.Generator) -> list[list["_Row"]]:
        drawn = (self._row(int(p), generator) for p in generator.permutation(self.learned))
        rows = [row for row in drawn if row is not None]
        size = min(self.recipe.batch, len(rows))
        starts = range(0, len(rows) - size + 1, size)
        return [rows[start : start + size] for start in starts]

    def _row(self, position: int, generator: np.random.Generator) -> "_Row | None":
        concept = self.lexicon.wordnet.concepts[position]
        lemma = _one_of(concept.lemmas, generator)
        if generator.random() > 1 / (1 + self.lexicon.rank(lemma, position)):
            return None
        gloss, examples = self.lexicon.glosses[position], self.lexicon.examples[position]
        if examples and generator.random() < _EXAMPLE:
            gloss = examples[generator.integers(len(examples))]
        return _Row(position, lemma, concept.part, gloss)

    def _concepts(self, rows: Sequence["_Row"], generator: np.random.Generator) -> Concepts:
        concepts = self.lexicon.wordnet.concepts
        higher = [concepts[row.position].hypernyms for row in rows]
        above = [i for i, own in enumerate(higher) if own]
        hypernyms = [higher[i][generator.integers(len(higher[i]))] for i in above]
        names = [(_one_of(concepts[p].lemmas, generator), concepts[p].part) for p in hypernyms]
        return Concepts(
            positions=torch.tensor([row.position for row in rows], dtype=torch.int32),
            senses=self.lexicon.senses([row.lemma for row in rows]),
            lemmas=[self._shown(row.lemma, row.part, generator) for row in rows],
            glosses=[row.gloss for row in rows],
            above=torch.tensor(above, dtype=torch.long),
            hypernyms=[self._shown(*name, generator) for name in names],
            hypernym_positions=torch.tensor(hypernyms, dtype=torch.int32),
        )

    def _shown(self, lemma: str, part: str, generator: np.random.Generator) -> Ids:
        """A lemma in one of its forms, in one of the templates."""
        template = _one_of(self.lexicon.templates, generator) if part == "n" else []
        return [*template, *self.lexicon.lemma(form(lemma, part, generator))][: self.lexicon.length]

    def _classes(self, generator: np.random.Generator) -> Classes:
        """Name, gloss and the name of an ancestor of some classes."""
        lexicon, count = self.lexicon, len(self.lexicon.classes)
        chosen = generator.permutation(count)[: self.recipe.classes].tolist()
        texts: list[Ids] = []
        fitting: list[list[int]] = []
        for number in chosen:
            own = lexicon.classes[number]
            texts += [
                self._shown(_one_of(own.lemmas, generator), "n", generator),
                lexicon.ids(own.definition),
            ]
            fits = [number] if own.concept is None else lexicon.below.get(own.concept, [number])
            fitting += [list({number, *fits})] * 2
            if lexicon.above[number]:
                position = _one_of(lexicon.above[number], generator)
                name = _one_of(lexicon.wordnet.concepts[position].lemmas, generator)
                texts.append(self._shown(name, "n", generator))
                fitting.append(lexicon.below[position])
        matches = torch.zeros(len(texts), count, dtype=torch.bool)
        for row, fits in enumerate(fitting):
            matches[row, fits] = True
        return Classes(texts, matches)

    def _bags(self, generator: np.random.Generator) -> Bags:
        """Sentences of two to six different words."""
        words: list[Ids] = []
        texts: list[Ids] = []
        members: list[list[int]] = []
        for _ in range(self.recipe.bags):
            text: Ids = []
            own: list[int] = []
            for index in generator.integers(len(self.words), size=generator.integers(2, 7)):
                lemma, part = self.words[index]
                word = self.lexicon.lemma(form(lemma, part, generator))
                joint = _one_of(self.lexicon.joints, generator) if own else []
                if len(text) + len(joint) + len(word) > self.lexicon.length:
                    break
                text += [*joint, *word]
                own.append(len(words))
                words.append(word)
            texts.append(text)
            members.append(own)
        shares = torch.zeros(len(texts), len(words))
        for row, own in enumerate(members):
            shares[row, own] = 1 / len(own)
        return Bags(words, texts, shares)


@dataclass(frozen=True)
class _Row:
    """A concept with the lemma and the gloss that were drawn."""

    position: int
    lemma: str
    part: str
    gloss: Ids


def _one_of(items: Sequence[_T], generator: np.random.Generator) -> _T:
    return items[int(generator.integers(len(items)))]
