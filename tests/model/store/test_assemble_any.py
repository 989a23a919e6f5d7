"""CLIPScore and CLIP-IQA from any open_clip model, by a tag, the hub or a file, without a network:
the hub's cache holds random weights in the layouts that the hub has.
"""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save
from torch import nn
from torch.nn import functional as F

import model
from model.clip.backbone import load_backbone
from model.clip.file_tokenizer import TOKENIZER, FileTokenizer
from model.config import BackboneConfig, CropPolicy, Normalisation, TokenizerConfig
from model.errors import BackboneError, CheckpointError, PromptTooLong
from model.scorer import Scorer
from model.store.assemble import assemble
from model.store.checkpoint import read_config, write_config
from tests.model.clip.test_sources import SETTINGS, WEIGHTS
from tests.model.fake_hub import put_in_cache, use_hub
from tests.model.methods.test_clipscore import KINDS, PICTURE, clip_of, image_features

PROMPT = "A CAT, in the rain; 3d render (blurred)"
HALF = (0.5, 0.5, 0.5)
WORDS = (
    *("a", "photo", "depicts", "cat", "in", "the", "rain", "red", "blue"),
    *("lake", "lighthouse", "good", "bad", "render", "blurred", "of"),
)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of the hub, and no way to it."""
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    return tmp_path / "cache"


def put_on_hub(cache: Path, repository: str, clip: nn.Module, settings: Mapping[str, Any]) -> None:
    """A model as open_clip pushes it."""
    weights = save({k: v.contiguous() for k, v in clip.state_dict().items()})
    content = json.dumps(settings).encode()
    put_in_cache(cache, repository, {SETTINGS: content, WEIGHTS: weights})


def settings_of(kind: str, **text: Any) -> dict[str, Any]:
    own = KINDS[kind]
    return {
        "model_cfg": {"embed_dim": 64, **own, "text_cfg": own["text_cfg"] | text},
        "preprocess_cfg": {"mean": HALF, "std": HALF},
    }


def words_tokenizer() -> bytes:
    """A small tokenizer in the format of SigLIP's: spaces marked, an end token behind the text."""
    library = pytest.importorskip("tokenizers")
    vocabulary = {"<pad>": 0, "<eos>": 1, "<unk>": 2}
    for word in WORDS:
        vocabulary[f"▁{word}"] = len(vocabulary)
    made = library.Tokenizer(library.models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = library.pre_tokenizers.Metaspace()
    made.post_processor = library.processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    return str(made.to_str()).encode()


TOKENIZER_SETTINGS = json.dumps(
    {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "eos_token": "<eos>",
        "unk_token": "<unk>",
    }
).encode()


@pytest.fixture
def siglip(cache: Path) -> nn.Module:
    """A SigLIP of the hub, whose texts are cut by a tokenizer of another repository."""
    pytest.importorskip("transformers")
    clip = clip_of("siglip")
    clean = {"clean": "canonicalize"}
    text = {"hf_tokenizer_name": "owner/words", "tokenizer_kwargs": clean}
    put_on_hub(cache, "owner/siglip", clip, settings_of("siglip", **text))
    files = {"tokenizer.json": words_tokenizer(), "tokenizer_config.json": TOKENIZER_SETTINGS}
    put_in_cache(cache, "owner/words", files)
    return clip


def load(folder: Path) -> Scorer:
    return model.load(str(folder), device="cpu", dtype="float32")


@pytest.mark.parametrize("kind", ["vit", "resnet", "mobile"])
def test_clipscore_of_a_clip_of_the_hub_is_its_cosine(
    kind: str, cache: Path, tmp_path: Path
) -> None:
    clip: Any = clip_of(kind)
    put_on_hub(cache, "owner/clip", clip, settings_of(kind))
    config = assemble("clipscore", tmp_path / "out", architecture="hf-hub:owner/clip")
    assert config.heads == ("quality", "consistency")
    assert config.crop_policy == CropPolicy(size=64, max_windows=1)
    assert config.normalisation == Normalisation(mean=HALF, std=HALF)
    assert config.backbone.tokenizer is None
    scorer = load(tmp_path / "out")
    with torch.no_grad():
        text = clip.encode_text(open_clip.tokenize([f"A photo depicts {PROMPT}"]))
    cosine = float(image_features(clip, scorer) @ F.normalize(text, dim=-1)[0])
    assert scorer.score(PICTURE, PROMPT).consistency == pytest.approx((1 + cosine) / 2, abs=1e-5)


def test_a_tag_brings_its_own_normalisation(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "agiqa-mobile"
    (tmp_path / f"{name}.json").write_text(json.dumps({"embed_dim": 64, **KINDS["mobile"]}))
    open_clip.add_model_config(tmp_path / f"{name}.json")
    tag = open_clip.pretrained._apcfg(hf_hub="owner/mobile/") | {
        "mean": (0, 0, 0),
        "std": (1, 1, 1),
    }
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, {"real": tag})
    clip = clip_of("mobile")
    put_on_hub(cache, "owner/mobile", clip, settings_of("mobile"))
    config = assemble("clipscore", tmp_path / "out", architecture=name, pretrained="real")
    assert config.normalisation == Normalisation(mean=(0, 0, 0), std=(1, 1, 1))
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(save({k: v.contiguous() for k, v in clip.state_dict().items()}))
    config = assemble("clip-iqa", tmp_path / "copied", architecture=name, weights=weights)
    assert config.normalisation == Normalisation(mean=(0, 0, 0), std=(1, 1, 1))
    shutil.rmtree(cache)
    assert load(tmp_path / "copied").score(PICTURE).crops > 1


def test_a_tokenizer_is_kept_in_the_checkpoint_and_gives_open_clips_features(
    siglip: nn.Module, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    config = assemble("clipscore", out, architecture="hf-hub:owner/siglip")
    tokenizer = config.backbone.tokenizer
    assert tokenizer is not None
    assert (tokenizer.clean, tokenizer.start, tokenizer.end) == ("canonicalize", (), (1,))
    shutil.rmtree(cache / "models--owner--words")
    monkeypatch.setitem(sys.modules, "transformers", None)
    scorer = load(out)
    clip: Any = siglip
    ids = [[*(WORDS.index(w) + 3 for w in ["a", "photo", "depicts", "cat"]), 1, *[0] * 72]]
    with torch.no_grad():
        text = F.normalize(clip.encode_text(torch.tensor(ids)), dim=-1)[0]
    cosine = float(image_features(clip, scorer) @ text)
    wanted = (1 + cosine) / 2
    assert scorer.score(PICTURE, "CAT!").consistency == pytest.approx(wanted, abs=1e-5)


def test_the_bound_on_a_prompts_tokens_counts_those_of_its_own_tokenizer(
    siglip: nn.Module, tmp_path: Path
) -> None:
    del siglip
    assemble("clipscore", tmp_path / "out", architecture="hf-hub:owner/siglip")
    scorer = load(tmp_path / "out")
    scorer.check_prompt("lighthouse " * 512)
    with pytest.raises(PromptTooLong, match="513 tokens"):
        scorer.check_prompt("lighthouse " * 513)
    assert scorer.embed(["lighthouse " * 512]).shape == (1, 64)


def config_for(content: bytes) -> TokenizerConfig:
    from hashlib import sha256

    return TokenizerConfig(sha256=sha256(content).hexdigest(), end=(1,))


EXPRESSION = {
    "type": "Split",
    "pattern": {"Regex": "(a+)+$"},
    "behavior": "Isolated",
    "invert": False,
}
BROKEN = {
    "no-json": (lambda made: made[:-9], "can't be used"),
    "an-expression": (
        lambda made: json.dumps(json.loads(made) | {"pre_tokenizer": EXPRESSION}).encode(),
        "a regular expression, whose time has no bound",
    ),
    "nested-expression": (
        lambda made: json.dumps(
            json.loads(made)
            | {"normalizer": {"type": "Sequence", "normalizers": [{"pattern": {"Regex": "x"}}]}}
        ).encode(),
        "a regular expression, whose time has no bound",
    ),
    "no-text": (lambda made: b"\xff\xfe", "can't be used"),
    "a-list": (lambda made: b"[]", "can't be used"),
}


@pytest.mark.parametrize(("damage", "says"), BROKEN.values(), ids=BROKEN.keys())
def test_a_strangers_tokenizer_is_refused_in_words(damage: Any, says: str, tmp_path: Path) -> None:
    content = damage(words_tokenizer())
    (tmp_path / TOKENIZER).write_bytes(content)
    with pytest.raises(BackboneError, match=says):
        FileTokenizer.read(tmp_path, config_for(content))


def test_a_tokenizer_that_is_missing_changed_or_huge_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"{}"
    with pytest.raises(BackboneError, match=r"tokenizer\.json is missing"):
        FileTokenizer.read(tmp_path, config_for(content))
    (tmp_path / TOKENIZER).write_bytes(content + b" ")
    with pytest.raises(BackboneError, match="SHA-256"):
        FileTokenizer.read(tmp_path, config_for(content))
    with (tmp_path / TOKENIZER).open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(BackboneError, match="larger than any tokenizer"):
        FileTokenizer.read(tmp_path, config_for(content))
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(BackboneError, match=r"pip install 'agiqa\[clip\]'"):
        FileTokenizer(content, config_for(content))


def test_a_checkpoint_whose_architecture_would_download_a_text_tower_is_refused(
    tmp_path: Path, cache: Path
) -> None:
    del cache
    (tmp_path / "backbone.safetensors").write_bytes(save({"x": torch.zeros(1)}))
    for source in ("checkpoint", "open_clip"):
        config = BackboneConfig(
            source=source, name="roberta-ViT-B-32", pretrained="laion2b_s12b_b32k"
        )
        with pytest.raises(BackboneError, match="which would be downloaded whenever it is loaded"):
            load_backbone(config, tmp_path)


def test_what_a_checkpoint_cannot_keep_of_a_tokenizer_is_refused_and_nothing_is_written(
    cache: Path, tmp_path: Path
) -> None:
    text: dict[str, Any] = {"tokenizer_kwargs": {"clean": "canonicalize"}}
    put_on_hub(cache, "owner/clip", clip_of("vit"), settings_of("vit", **text))
    with pytest.raises(BackboneError, match=r"can't keep the tokenizer .*how it cuts texts"):
        assemble("clipscore", tmp_path / "out", architecture="hf-hub:owner/clip")
    text = {"tokenizer_kwargs": {"trust_remote_code": True}, "hf_tokenizer_name": "owner/words"}
    put_on_hub(cache, "owner/other", clip_of("vit"), settings_of("vit", **text))
    with pytest.raises(BackboneError, match="its setting trust_remote_code"):
        assemble("clipscore", tmp_path / "out", architecture="hf-hub:owner/other")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_with_a_tokenizer_of_others_is_not_loaded(
    siglip: nn.Module, tmp_path: Path
) -> None:
    del siglip
    out = tmp_path / "out"
    assemble("clipscore", out, architecture="hf-hub:owner/siglip")
    (out / TOKENIZER).write_bytes((out / TOKENIZER).read_bytes().replace(b"cat", b"dog"))
    with pytest.raises(CheckpointError, match="is not the tokenizer that this checkpoint"):
        load(out)
    config = read_config(out)
    backbone = config.backbone.model_copy(update={"tokenizer": None})
    write_config(out, config.model_copy(update={"backbone": backbone}))
    assert load(out).config.backbone.tokenizer is None  # CLIP's own byte pairs
