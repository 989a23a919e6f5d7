"""Runs a backbone's recipe: what it begins with (a stem that ImageNet taught, a text tower that
WordNet taught), its stages, and the file that methods stand on.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model.clip.backbone import WEIGHTS, build
from model.clip.efficientnet import EfficientNetStem
from model.clip.known_words import digests
from model.clip.weights import sha256_of
from model.config import Architecture
from model.store.checkpoint import write_weights
from model.store.files import write_atomically
from training import pretrained_stem
from training.data.wordnet import WordNet, imagenet_classes, read_wordnet
from training.engine.devices import processes
from training.evaluation.results import flat_srcc
from training.manifest import write_manifest
from training.methods.pretrain import Pretraining
from training.prepared_data import PreparedData, require_folders
from training.provenance import provenance_of, round_to_16_bit
from training.recipe import BackboneRecipe
from training.reports.backbone_card import DESCRIPTION, BackboneDescription, backbone_card
from training.words.known import known_words
from training.words.stage import learn_words
from training.words.texts import plain_words


def pretrain(recipe: BackboneRecipe, command: str) -> dict[str, float] | None:
    """Trains a CLIP stage by stage (resuming what a stopped run left) and writes its weights.

    Returns:
        SRCC of both views of the validation images, per data set and head; None in all processes
        but the main one.

    Raises:
        TrainingError: unusable data, a leak, or a loss that is no number.
    """
    require_folders(recipe)
    prepared = PreparedData.prepare(recipe)
    here = processes(recipe.device)
    if here.is_main_process:
        write_manifest(recipe.work, recipe, prepared, command)
    train = [s for parts in prepared.parts.values() for s in parts["train"]]
    sources = sorted({sample.source for sample in train if sample.source})
    prompts = [sample.prompt for sample in train if sample.prompt]
    architecture, clip, taught = beginning(recipe, prompts)
    task = Pretraining(
        clip,
        sources,
        recipe.weights,
        recipe.patch_dropout,
        recipe.normalisation,
        prompts=prompts,
        class_names=taught.class_names,
        words=taught.words,
        word_dropout=recipe.word_dropout,
    )
    figures: dict[str, float] = {}
    for number, stage in enumerate(recipe.stages):
        task.part = stage.part
        task.freeze_stem(stage.frozen_stem)
        run = prepared.run(recipe, stage, task, recipe.seed + number)
        run.fit()
        round_to_16_bit(clip)
        figures = flat_srcc(run.measure())
    if not here.is_main_process:
        return None
    recipe.out.mkdir(parents=True, exist_ok=True)
    write_weights(recipe.out / WEIGHTS, clip.state_dict(), torch.float16)
    described = BackboneDescription(
        name=recipe.name,
        architecture=architecture,
        sha256=sha256_of(recipe.out / WEIGHTS),
        provenance=provenance_of(recipe, command, prepared, metrics=figures),
    )
    write_atomically(recipe.out / "README.md", backbone_card(described, recipe).encode())
    text = described.model_dump_json(indent=2, exclude_none=True) + "\n"
    write_atomically(recipe.out / DESCRIPTION, text.encode())
    return figures


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
    fingerprint = _fingerprint(recipe, architecture)
    vectors = learn_words(clip, wordnet, recipe.words, recipe.work, recipe.seed, fingerprint)
    if isinstance(stem, EfficientNetStem):
        stem.start_from(vectors, clip.visual.proj)
    return architecture, clip, _taught(wordnet)


def _taught(wordnet: WordNet) -> Taught:
    classes = imagenet_classes(wordnet)
    words = {lemma for lemma, _ in plain_words(wordnet, classes)}
    return Taught([own.lemmas[0] for own in classes], sorted(words))


def _fingerprint(recipe: BackboneRecipe, architecture: Architecture) -> str:
    """Of all that changes what is learned from words."""
    assert recipe.words is not None
    words = recipe.words.model_dump_json(exclude={"folder"})
    text = architecture.model_dump_json(include={"embed_dim", "text_cfg", "known_words"})
    return hashlib.sha256(f"{words}{text}{recipe.seed}".encode()).hexdigest()
