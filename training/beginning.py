"""What a backbone of our own is before it sees a rated image: a stem that ImageNet taught, and a
text tower that WordNet taught, if the recipe asks for them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model.clip.backbone import build
from model.clip.efficientnet import EfficientNetStem
from model.clip.known_words import digests
from model.config import Architecture
from training import pretrained_stem
from training.data.wordnet import WordNet, imagenet_classes, read_wordnet
from training.recipe import BackboneRecipe
from training.words.known import known_words
from training.words.stage import learn_words


@dataclass(frozen=True)
class Taught:
    """The names of ImageNet's classes, and the words of WordNet that the text tower should keep."""

    class_names: Sequence[str] = ()
    words: Sequence[str] = ()


def beginning(
    recipe: BackboneRecipe, prompts: Sequence[str]
) -> tuple[Architecture, nn.Module, Taught]:
    """The CLIP with which a recipe's stages begin, its architecture with all that it lists, and
    what it was taught. A words stage that was stopped goes on.

    Args:
        recipe: of the backbone.
        prompts: all of the training part, whose words count as known.

    Raises:
        DataError: no WordNet where the recipe says.
        TrainingError: no ImageNet weights, or a words stage that belongs to other settings.
    """
    architecture, wordnet = recipe.architecture, None
    listed: Tensor | None = None
    if recipe.words is not None:
        wordnet = read_wordnet(recipe.words.folder)
        listed = digests(known_words(wordnet, prompts))
        architecture = architecture.model_copy(update={"known_words": len(listed)})
    torch.manual_seed(recipe.seed)
    clip: Any = build(architecture)
    stem = clip.visual.conv1
    if recipe.stem_weights:
        pretrained_stem.fill(stem.convolutions)
    if wordnet is None or recipe.words is None or listed is None:
        return architecture, clip, Taught()
    clip.known_words.copy_(listed)
    vectors = learn_words(
        clip, recipe.words, recipe.work, recipe.seed, _fingerprint(recipe, architecture)
    )
    if isinstance(stem, EfficientNetStem):
        stem.start_from(vectors, clip.visual.proj)
    return architecture, clip, _taught(wordnet)


def _taught(wordnet: WordNet) -> Taught:
    common = {wordnet.concepts[position].lemmas[0] for position in wordnet.common}
    names = [own.lemmas[0] for own in imagenet_classes(wordnet)]
    return Taught(names, sorted(common | set(names)))


def _fingerprint(recipe: BackboneRecipe, architecture: Architecture) -> str:
    """Of all that changes what is learned from words."""
    assert recipe.words is not None
    words = recipe.words.model_dump_json(exclude={"folder"})
    text = architecture.model_dump_json(include={"embed_dim", "text_cfg", "known_words"})
    return hashlib.sha256(f"{words}{text}{recipe.seed}".encode()).hexdigest()
