"""Which words a CLIP has learned: a prompt without any of them can't be compared with an image.

A CLIP that saw the web knows every word a little. One of our own knows those that it was taught,
and keeps a digest of each, so that a prompt of other words is noticed instead of guessed at.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

# Four bytes of SHA-256 do: of 100 000 words they cost 400 kB of a checkpoint, eight would cost 800.
# A word that is not known is taken for one of them once in 43 000 (2^32 / 100 000).
_DIGEST_BYTES = 4
_LETTERS = re.compile(r"[^\W\d_]+")
# Dictionaries have every letter as a word; two letters are the shortest that mean something.
_FEWEST_LETTERS = 2
# What is left of a word without its ending is a word again from so many letters on.
_FEWEST_OF_STEM = 3
# What English words end in, and what stands there in the plain form.
_ENDINGS = {
    "s": ("",),
    "es": ("",),
    "ies": ("y",),
    "ed": ("", "e"),
    "ied": ("y",),
    "ing": ("", "e"),
}
# They hold a sentence together and depict nothing, yet dictionaries list some of them as nouns
# ("at", "in", "as", "he": a coin and chemical elements).
_FUNCTION = """
    a an the this that these those
    i me my myself we us our ours ourselves you your yours yourself he him his himself
    she her hers herself it its itself they them their theirs themselves one ones
    who whom whose which what when where why how
    and or but nor so yet if else than then because while though although unless until since
    of in on at by for with without within from to into onto over under above below between among
    through during before after about against around behind beside beneath beyond near off out up
    down across along toward towards upon per via as like
    is am are was were be been being do does did doing done has have had having
    could may might must shall should will would
    not no yes very too also just only even again more most much many less least
    some any all each every both either neither few other another such same own there here
"""
_FUNCTION_WORDS = frozenset(_FUNCTION.split())


def digests(words: Iterable[str]) -> Tensor:
    """Sorted int32 [n]: a digest of each word; "hot dog" is two words, "Cat" and "cat" are one."""
    distinct = {word for text in words for word in _words(text)}
    return torch.tensor(sorted({_digest(word) for word in distinct}), dtype=torch.int32)


def content_words(text: str) -> set[str]:
    """The words of a text that depict something, in lower case."""
    return set(_words(text)) - _FUNCTION_WORDS


def known_words_of(clip: nn.Module) -> Tensor:
    """The digests of the words that a CLIP lists, int32 [n]; empty: it lists none."""
    return cast(Tensor, getattr(clip, "known_words", torch.empty(0, dtype=torch.int32)))


def has_known_word(prompt: str, known: Tensor) -> bool:
    """Whether one of the prompt's words, or what it is an inflection of, is ``known`` (``digests``
    of words; irregular forms are words of their own). Words such as "the" and "with" don't count.

    Where nothing is listed, every prompt has one.
    """
    if not len(known):
        return True
    listed = known.cpu().numpy()
    forms = {form for word in _words(prompt) for form in _forms(word)}
    wanted = np.array([_digest(form) for form in forms - _FUNCTION_WORDS], np.int32)
    places = np.searchsorted(listed, wanted).clip(max=len(listed) - 1)
    return bool((listed[places] == wanted).any())


def _words(text: str) -> list[str]:
    """Runs of letters, in lower case."""
    found = _LETTERS.findall(text.lower())
    return [word for word in found if len(word) >= _FEWEST_LETTERS]


def _forms(word: str) -> Iterator[str]:
    """The word, and what it may be an inflection of."""
    yield word
    if word in _FUNCTION_WORDS:
        return
    for ending, plain in _ENDINGS.items():
        stem = word.removesuffix(ending)
        if stem == word or len(stem) < _FEWEST_OF_STEM:
            continue
        yield from (stem + end for end in plain)
        if "" in plain and stem[-1] == stem[-2]:  # running
            yield stem[:-1]


def _digest(word: str) -> int:
    start = hashlib.sha256(word.encode()).digest()[:_DIGEST_BYTES]
    return int.from_bytes(start, "big", signed=True)
