from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.clip.own_clip import OwnClip
from model.clip.tokenizer import Tokenizer
from tests.training.wordnet_files import write_wordnet
from training.data.wordnet import read_wordnet
from training.errors import TrainingError
from training.words.recipe import WordsRecipe
from training.words.stage import STATE, learn_words
from training.words.task import Words
from training.words.texts import Lexicon


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wordnet(tmp_path_factory.mktemp("wordnet"))


def recipe_of(folder: Path, epochs: int) -> WordsRecipe:
    return WordsRecipe(
        folder=folder, epochs=epochs, batch=15, classes=8, bags=4, lr=3e-3, lsa=False, context=16
    )


def tiny_clip() -> OwnClip:
    torch.manual_seed(0)
    vision = {"layers": 1, "width": 64, "patch_size": 32, "image_size": 32}
    return OwnClip(16, vision, {"layers": 1, "width": 32, "heads": 2, "context_length": 24})


def learn(clip: OwnClip, recipe: WordsRecipe, *arguments: Any, **named: Any) -> Tensor:
    return learn_words(clip, read_wordnet(recipe.folder), recipe, *arguments, **named)


def weights_of(clip: OwnClip) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in clip.named_parameters()}


def test_a_tiny_tower_learns_words_and_leaves_the_images_alone(
    folder: Path, tmp_path: Path
) -> None:
    clip, lines = tiny_clip(), list[str]()
    before = weights_of(clip)
    recipe = recipe_of(folder, 30)
    vectors = learn_words(
        clip, read_wordnet(recipe.folder), recipe, tmp_path, 0, "own", report=lines.append
    )
    assert vectors.shape == (1000, 16)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(1000), atol=1e-5)
    losses = [float(line.split("gloss ")[1].split()[0]) for line in lines]
    assert len(lines) == 30
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])
    after = weights_of(clip)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "token_embedding.weight" in changed
    assert not any(name.startswith("visual.") or name == "logit_scale" for name in changed)
    words = Words(clip, Lexicon(read_wordnet(folder), 14, 2, 0), recipe)
    tokenizer = Tokenizer()
    named = ["dog", "cat", "car", "bread", "mountain", "city", "run", "wet"]
    glosses = [words.lexicon.glosses[words.lexicon.wordnet.senses[name][0]] for name in named]
    with torch.no_grad():
        near = words.encode([tokenizer(name) for name in named]) @ words.encode(glosses).T
    assert (near.argmax(1) == torch.arange(8)).sum() >= 7


class _Stopped(Exception):
    pass


def test_a_resumed_run_ends_with_the_weights_of_an_undisturbed_one(
    folder: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(folder, 3)
    whole, cut, resumed = tiny_clip(), tiny_clip(), tiny_clip()
    expected = learn_words(
        whole,
        read_wordnet(recipe.folder),
        recipe,
        tmp_path / "whole",
        0,
        "own",
        report=lambda _: None,
    )

    def stop(line: str) -> None:
        raise _Stopped(line)

    with pytest.raises(_Stopped, match="words 1/3"):
        learn_words(
            cut, read_wordnet(recipe.folder), recipe, tmp_path / "cut", 0, "own", report=stop
        )
    lines: list[str] = []
    vectors = learn_words(
        resumed,
        read_wordnet(recipe.folder),
        recipe,
        tmp_path / "cut",
        0,
        "own",
        report=lines.append,
    )
    assert [line.partition(":")[0] for line in lines] == ["words 2/3", "words 3/3"]
    assert torch.equal(vectors, expected)
    own = weights_of(resumed)
    assert all(torch.equal(own[name], p) for name, p in weights_of(whole).items())


def test_a_finished_stage_is_not_run_again_and_another_runs_state_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(folder, 1)
    vectors = learn_words(
        tiny_clip(), read_wordnet(recipe.folder), recipe, tmp_path, 0, "own", report=lambda _: None
    )
    lines: list[str] = []
    again = learn_words(
        tiny_clip(), read_wordnet(recipe.folder), recipe, tmp_path, 0, "own", report=lines.append
    )
    assert not lines
    assert torch.equal(again, vectors)
    with pytest.raises(TrainingError, match=f"{STATE} belongs to other settings"):
        learn_words(
            tiny_clip(),
            read_wordnet(recipe.folder),
            recipe,
            tmp_path,
            0,
            "another",
            report=lines.append,
        )
