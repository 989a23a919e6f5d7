"""Which words the stage learns: WordNet's, their commonest endings, and those of the prompts."""

from collections.abc import Iterable

from training.data.wordnet import WordNet, words_of

_FUNCTION = """
a about above after again against all along also am among an and any are around as at be
because been before behind being below beneath beside between beyond both but by can could did
do does doing down during each either every few for from further had has have having he her
here hers him his how if in inside into is it its itself just like many may me might mine more
most must my near neither no nor not of off on once only onto or other our ours out outside
over own per same shall she should since so some such than that the their theirs them then
there these they this those though through to too toward towards under until up upon us very
via was we were what when where which while who whom whose why will with within without would
you your yours
"""
FUNCTION_WORDS = frozenset(_FUNCTION.split())


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
    """Words in lower case, sorted, without function words and single letters: of all lemmas and
    definitions (these have irregular forms), and of further texts, the training prompts say.
    Whoever looks one up tries it without its regular endings (``model.clip.known_words``). A word
    is what ``words_of`` finds.
    """
    texts = [text for c in wordnet.concepts for text in (*c.lemmas, c.definition)]
    found = {word for text in (*texts, *extra_texts) for word in words_of(text)}
    return sorted(w for w in found - FUNCTION_WORDS if len(w) > 1 and not w.isdigit())
