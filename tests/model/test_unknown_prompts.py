"""A prompt without a word that the model knows: consistency is alignment, and the Score says so."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import model
from model.clip.known_words import digests
from model.config import Architecture, BackboneConfig, CropPolicy
from model.errors import BackboneError
from model.methods.clipscore import ClipScore, ClipScoreOptions
from model.scorer import Scorer
from model.store.checkpoint import read_config, save_checkpoint, without_digests, write_config
from tests.model import tiny

WORDS = digests(["cat", "boat", "lighthouse"])
KNOWN, UNKNOWN = "a cat on a mat", "zqx of the wvk"
PICTURE = tiny.picture(500, 400)


def architecture(**changes: Any) -> Architecture:
    return tiny.variant(known_words=len(WORDS), **changes)


def clip(**changes: Any) -> nn.Module:
    """A tiny CLIP that lists three words."""
    made: Any = tiny.random_clip(architecture(**changes))
    made.known_words.copy_(WORDS)
    return cast(nn.Module, made)


def written(folder: Path, *, policy: CropPolicy | None = None, **changes: Any) -> Path:
    """A checkpoint in 16 bit on such a CLIP."""
    made = clip(**changes)
    config = tiny.config_of(
        backbone=BackboneConfig(source="checkpoint", architecture=architecture(**changes)),
        crop_policy=policy or CropPolicy(max_side=1024),
    )
    network = tiny.random_network(clip=made)
    save_checkpoint(folder, config, network, card="", metrics={}, backbone=made)
    return folder


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    folder = written(tmp_path_factory.mktemp("models") / "tiny")
    return model.load(str(folder), device="cpu", dtype="float32")


def test_consistency_falls_back_to_alignment_and_the_score_says_why(scorer: Scorer) -> None:
    known, unknown = (scorer.score(PICTURE, prompt) for prompt in (KNOWN, UNKNOWN))
    assert unknown.consistency == unknown.alignment == known.alignment
    assert unknown.quality == known.quality
    assert unknown.detail == (
        "The prompt has no word that this model knows; consistency is alignment."
    )


def test_a_prompt_with_a_known_word_has_its_own_consistency_and_no_detail(scorer: Scorer) -> None:
    score = scorer.score(PICTURE, KNOWN)
    assert score.consistency != score.alignment
    assert score.detail is None
    assert scorer.score(PICTURE).detail is None


@pytest.mark.parametrize("global_view", [False, True])
def test_consistency_asked_for_alone_is_the_same_alignment(
    global_view: bool, tmp_path: Path
) -> None:
    policy = CropPolicy(max_side=1024, global_view=global_view)
    folder = written(tmp_path / "tiny", policy=policy)
    scorer = model.load(str(folder), device="cpu", dtype="float32")
    alone = scorer.score(PICTURE, UNKNOWN, heads=("consistency",))
    assert alone.consistency == pytest.approx(scorer.score(PICTURE, UNKNOWN).alignment, abs=1e-6)
    assert alone.alignment is alone.quality is None
    assert alone.detail is not None


def test_a_method_without_alignment_gives_its_consistency_and_warns(tmp_path: Path) -> None:
    options = ClipScoreOptions()
    made = clip()
    config = tiny.config_of(
        options,
        method="clipscore",
        heads=("quality", "consistency"),
        crop_policy=CropPolicy(max_windows=1),
    )
    scorer = Scorer(config, ClipScore(made, options), device="cpu", dtype="float32")
    known, unknown = (scorer.score(PICTURE, prompt) for prompt in (KNOWN, UNKNOWN))
    assert known.detail is None
    assert unknown.consistency not in (None, known.consistency)
    assert unknown.detail == (
        "The prompt has no word that this model knows; consistency says little."
    )


def test_a_clip_that_lists_no_words_never_has_a_detail(tiny_checkpoint: Path) -> None:
    scorer = model.load(str(tiny_checkpoint), device="cpu", dtype="float32")
    score = scorer.score(PICTURE, UNKNOWN)
    assert score.detail is None
    assert score.consistency != score.alignment


@pytest.mark.parametrize("changes", [{}, {"quick_gelu": False}])
def test_the_words_are_stored_as_they_are_and_come_back(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    folder = written(tmp_path / "tiny", **changes)
    stored = load_file(folder / "backbone.safetensors")
    assert stored["known_words"].dtype == torch.int32
    assert stored["token_embedding.weight"].dtype == torch.float16
    loaded = model.load(str(folder), device="cpu", dtype="float32")
    assert loaded._known_words.equal(WORDS)


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        (5, r"the tensor known_words is \[3\], wanted \[5\]"),
        (0, r"the tensor known_words \[3\] belongs to another network"),
    ],
)
def test_another_number_of_words_than_the_file_has_is_refused(
    count: int, sentence: str, tmp_path: Path
) -> None:
    folder = written(tmp_path / "tiny")
    config = without_digests(read_config(folder))
    other = BackboneConfig(source="checkpoint", architecture=tiny.variant(known_words=count))
    write_config(folder, config.model_copy(update={"backbone": other}))
    with pytest.raises(BackboneError, match=sentence):
        model.load(str(folder), device="cpu")
