"""Which words the stage learns: WordNet's, their commonest endings, and those of the prompts."""

from collections.abc import Iterable
from itertools import chain

from model.clip.known_words import content_words
from training.data.wordnet import WordNet


def inflected(lemma: str, part: str) -> str:
    """A regular form of the last word: the plural of a noun ("n"), the participle of a verb of one
    word ("v"); others stay, and names do.
    """
    if part == "n" and lemma.islower():
        return _plural(lemma)
    if part == "v" and " " not in lemma:
        return (lemma[:-1] if lemma.endswith("e") and not lemma.endswith("ee") else lemma) + "ing"
    return lemma


def _plural(noun: str) -> str:
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in set("aeiou"):
        return noun[:-1] + "ies"
    return noun + "s"


def known_words(wordnet: WordNet, extra_texts: Iterable[str] = ()) -> list[str]:
    """Words that depict something, in lower case, sorted: of all lemmas and definitions (these have
    irregular forms), and of further texts, the training prompts say. Whoever looks one up tries it
    without its regular endings (``model.clip.known_words``).
    """
    texts = (text for c in wordnet.concepts for text in (*c.lemmas, c.definition))
    return sorted({word for text in chain(texts, extra_texts) for word in content_words(text)})
