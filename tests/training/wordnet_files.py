"""A WordNet of fifteen concepts in the database's own line format, written for a test."""

from collections import defaultdict
from pathlib import Path

FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
# Type, lemmas, hypernym's first lemma or none, gloss.
CONCEPTS = (
    ("n", "animal", "", "a living organism that moves by itself"),
    ("n", "dog domestic_dog", "animal", 'a tame carnivore that barks; "the dog barked all night"'),
    ("n", "cat", "animal", "a feline mammal with soft fur and no ability to roar"),
    ("n", "tench Tinca_tinca", "animal", "freshwater dace-like game fish of Europe"),
    ("n", "crane", "animal", "large long-necked wading bird of marshes and plains"),
    ("n", "machine", "", "a mechanical device that transmits energy"),
    ("n", "crane hoist", "machine", "lifts and moves heavy objects on a building site"),
    ("n", "car auto", "machine", "a motor vehicle with four wheels"),
    ("n", "bread", "", "food made from dough of flour and baked"),
    ("n", "mountain", "", "a land mass that stands well above its surroundings"),
    ("n", "city", "", "a large and densely populated urban area"),
    ("v", "run", "", "move fast by using the feet"),
    ("a", "wet", "", "covered with a liquid such as water"),
    ("s", "damp(p)", "wet", "slightly moist to the touch"),
    ("r", "quickly", "", 'with speed; "he worked quickly"'),
)
_LICENCE = "  1 This software and database is being provided to you under a licence.  \n"


def write_wordnet(folder: Path) -> Path:
    """Writes ``data.*`` and ``index.*``; the first sense of each lemma counts as met in texts,
    except the tench's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    offsets = [f"{100 + number:08d}" for number in range(len(CONCEPTS))]
    first = {lemmas.split()[0]: i for i, (_, lemmas, *_) in reversed([*enumerate(CONCEPTS)])}
    data: dict[str, list[str]] = defaultdict(list)
    senses: dict[tuple[str, str], list[str]] = defaultdict(list)
    for offset, (kind, lemmas, above, gloss) in zip(offsets, CONCEPTS, strict=True):
        words, part = lemmas.split(), kind.replace("s", "a")
        symbol = "&" if kind == "s" else "@"
        pointer = f"001 {symbol} {offsets[first[above]]} {part} 0000" if above else "000"
        named = " ".join(f"{word} 0" for word in words)
        data[part].append(f"{offset} 03 {kind} {len(words):02x} {named} {pointer} | {gloss}  \n")
        for word in words:
            senses[part, word.lower().removesuffix("(p)")].append(offset)
    for part, name in FILES.items():
        index = [
            " ".join([lemma, part, count := str(len(own)), "0", count, met(lemma), *own]) + "  \n"
            for (of, lemma), own in sorted(senses.items())
            if of == part
        ]
        (folder / f"data.{name}").write_text(_LICENCE + "".join(data[part]))
        (folder / f"index.{name}").write_text(_LICENCE + "".join(index))
    return folder


def met(lemma: str) -> str:
    """How many of a lemma's senses are met in texts."""
    return "0" if "tench" in lemma or "tinca" in lemma else "1"
