"""CLIP's byte-pair encoding: open_clip's vocabulary and cleaning of the text, with merges that cost
n log n for a word of n bytes, and a bounded memory of words.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

# Words that are remembered, and the longest of them in bytes: prompts repeat ordinary words.
_CACHED_WORDS, _CACHED_BYTES = 16_384, 64
# Texts that are remembered, and the longest of them in characters: who counts a prompt's tokens
# before it is embedded encodes it twice.
_CACHED_TEXTS, _CACHED_CHARS = 64, 4096


class Tokenizer:
    """CLIP's byte-pair encoding, without padding; all instances share the vocabulary.

    ``prefix`` and ``suffix`` stand around a text's tokens, ``pad`` fills up what is behind.
    """

    def __init__(self) -> None:
        vocabulary = _byte_pairs()
        self.prefix: tuple[int, ...] = (vocabulary.sot_token_id,)
        self.suffix: tuple[int, ...] = (vocabulary.eot_token_id,)
        self.pad = 0

    @property
    def start(self) -> int:
        """The token before a text."""
        return self.prefix[0]

    @property
    def end(self) -> int:
        """The token behind a text, at which CLIP's text tower is read."""
        return self.suffix[0]

    def __call__(self, text: str) -> list[int]:
        """Token ids of ``text``, without start and end."""
        return list(_cached(text) if len(text) <= _CACHED_CHARS else _encode(text))


def _encode(text: str) -> list[int]:
    ids: list[int] = _byte_pairs().encode(text)
    return ids


@lru_cache(_CACHED_TEXTS)
def _cached(text: str) -> list[int]:
    return _encode(text)


def cleaning(kind: str) -> Callable[[str], str]:
    """open_clip's cleaning of texts by name: "whitespace", "lower" or "canonicalize"."""
    clean: Callable[[str], str] = _module().get_clean_fn(kind)
    return clean


@cache
def _module() -> Any:
    """open_clip's file of tokenizers alone: importing the package takes seconds."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).with_name("tokenizer.py")
    spec = importlib.util.spec_from_file_location("agiqa_open_clip_tokenizer", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def _byte_pairs() -> Any:
    """open_clip's ``SimpleTokenizer``, the one that its file makes when it is loaded: reading the
    merges again would take time and memory. All networks share them.
    """
    module = _module()
    tokenizer = getattr(module, "_tokenizer", None) or module.SimpleTokenizer()
    # Its own method is quadratic in the length of a word, and remembers each for ever.
    tokenizer.bpe = Words(tokenizer.bpe_ranks, frozenset(tokenizer.cache))
    return tokenizer


class Words:
    """Cuts a word into its parts in the vocabulary, separated by spaces, as ``SimpleTokenizer.bpe``
    does it.

    Args:
        ranks: of each pair of neighbours that merge; those learned first have the lowest.
        special: words that are tokens of their own.
    """

    def __init__(self, ranks: Mapping[tuple[str, str], int], special: frozenset[str]) -> None:
        self._ranks = ranks
        self._special = special
        self.cached = lru_cache(_CACHED_WORDS)(self._cut)

    def __call__(self, word: str) -> str:
        return self.cached(word) if len(word) <= _CACHED_BYTES else self._cut(word)

    def _cut(self, word: str) -> str:
        if word in self._special:
            return word
        return " ".join(merge([*word[:-1], word[-1] + "</w>"], self._ranks))


def merge(symbols: Sequence[str], ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Merges the pair of neighbours with the lowest rank, wherever it stands, from left to right,
    then the next, until no two merge.
    """
    row = _Row(symbols, ranks)
    while row.waiting:
        row.merge_all(heappop(row.waiting))
    return row.symbols()


class _Row:
    """Symbols in a linked list, and where the pairs stand that could merge."""

    def __init__(self, symbols: Sequence[str], ranks: Mapping[tuple[str, str], int]) -> None:
        self._symbols: list[str | None] = list(symbols)  # None: merged into one to its left
        self._left = list(range(-1, len(symbols) - 1))
        self._right = list(range(1, len(symbols) + 1))
        self._ranks = ranks
        self._places: dict[int, list[int]] = {}  # of left symbols, by the rank of the pair
        self.waiting: list[int] = []  # heap of those ranks
        for place in range(len(symbols) - 1):
            self._note(place)

    def symbols(self) -> list[str]:
        """What is left of them."""
        return [symbol for symbol in self._symbols if symbol is not None]

    def merge_all(self, rank: int) -> None:
        """Merges all pairs of that rank; those that arise thereby have other ranks."""
        for place in sorted(self._places.pop(rank)):
            if self._rank(place) == rank:  # no symbol of the pair was taken by another meanwhile
                self._merge(place)

    def _merge(self, place: int) -> None:
        gone = self._right[place]
        left, right = self._symbols[place], self._symbols[gone]
        assert left is not None
        assert right is not None
        self._symbols[place], self._symbols[gone] = left + right, None
        after = self._right[gone]
        self._right[place] = after
        if after < len(self._symbols):
            self._left[after] = place
        self._note(place)
        self._note(self._left[place])

    def _note(self, place: int) -> None:
        rank = self._rank(place)
        if rank is None:
            return
        if rank not in self._places:
            self._places[rank] = []
            heappush(self.waiting, rank)
        self._places[rank].append(place)

    def _rank(self, place: int) -> int | None:
        """Of the pair that begins there; None: it does not merge, or there is none."""
        right = self._right[place] if place >= 0 else len(self._symbols)
        if right == len(self._symbols):
            return None
        first, second = self._symbols[place], self._symbols[right]
        return None if first is None or second is None else self._ranks.get((first, second))
