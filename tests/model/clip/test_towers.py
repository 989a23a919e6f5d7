"""The towers against open_clip's own forward pass, and against a slow literal prompt surgery."""

from collections.abc import Callable, Sequence
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor, nn

from model.clip.backbone import build
from model.clip.prompts import encode_with_context
from model.clip.tokenizer import Tokenizer
from model.clip.towers import TextTower, VisionTower
from model.config import Architecture
from model.errors import BackboneError
from tests.model import tiny

TEXTS = ["a photo", "two dogs, one cat and a very long tail of other words", ""]

ARCHITECTURES = {
    "patches-gelu": tiny.variant(stem=(), quick_gelu=False),
    "patches-quickgelu": tiny.variant(stem=()),
    "stem-gelu": tiny.variant(quick_gelu=False),
    "stem-quickgelu": tiny.ARCHITECTURE,
    "other-image-size": tiny.variant({"image_size": [96, 160]}, stem=()),
    "one-layer": tiny.variant({"layers": 1}, {"layers": 1}),
    "layer-scale-and-no-ln-pre": tiny.variant(
        {"ls_init_value": 0.5, "no_ln_pre": True, "final_ln_after_pool": True, "mlp_ratio": 2.0},
        {"ls_init_value": 0.5, "proj_bias": True},
        stem=(),
    ),
    "short-context-and-other-eps": tiny.variant(
        {"norm_kwargs": {"eps": 1e-3}}, {"context_length": 24, "norm_kwargs": {"eps": 1e-3}}
    ),
}


def custom_text_clip() -> nn.Module:
    """The class that open_clip builds for architectures with ``custom_text``."""
    clip = open_clip.CustomTextCLIP(
        embed_dim=16,
        vision_cfg=dict(tiny.ARCHITECTURE.vision_cfg),
        text_cfg=dict(tiny.ARCHITECTURE.text_cfg),
    )
    tiny.shake(clip)
    return clip.eval()


CLIPS: dict[str, Callable[[], nn.Module]] = {
    name: (lambda architecture=architecture: tiny.random_clip(architecture))
    for name, architecture in ARCHITECTURES.items()
} | {"custom-text": custom_text_clip}

every_clip = pytest.mark.parametrize("make", CLIPS.values(), ids=CLIPS.keys())


def pixels(
    count: int, dtype: torch.dtype = torch.float64, size: tuple[int, int] = (224, 224)
) -> Tensor:
    noise = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, *size, generator=noise, dtype=dtype)


def padded(texts: Sequence[str], length: int) -> Tensor:
    """open_clip's own tokens [n, length] of ``texts``, start, end and padding included."""
    return open_clip.SimpleTokenizer(context_length=length)(list(texts))


def ends_of(ids: Tensor) -> Tensor:
    return ids.argmax(-1)  # the end token has the highest id


def assert_image_features_agree(clip: nn.Module, x: Tensor, tolerance: float) -> None:
    tower = VisionTower(clip.visual)
    with torch.no_grad():
        torch.testing.assert_close(
            tower.encode(tower.patchify(x)), clip.visual(x), atol=tolerance, rtol=tolerance
        )


def assert_text_features_agree(clip: nn.Module, tolerance: float) -> None:
    tower = TextTower(clip)
    ids = padded(TEXTS, tower.context_length)
    with torch.no_grad():
        ours = tower.encode(tower.embed(ids), ends_of(ids))
        torch.testing.assert_close(ours, clip.encode_text(ids), atol=tolerance, rtol=tolerance)


@every_clip
def test_vision_tower_without_prompts_is_open_clips_own(make: Callable[[], Any]) -> None:
    clip = make().double()
    assert_image_features_agree(clip, pixels(3, size=clip.visual.image_size), 1e-9)


@every_clip
def test_text_tower_is_open_clips_own(make: Callable[[], nn.Module]) -> None:
    assert_text_features_agree(make().double(), 1e-9)


def test_both_towers_of_a_real_architecture_are_open_clips_own(vit_b_32: nn.Module) -> None:
    assert_image_features_agree(vit_b_32, pixels(2, torch.float32), 1e-4)
    assert_text_features_agree(vit_b_32, 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-S-32-alt"])
def test_both_towers_of_other_real_architectures_are_open_clips_own(name: str) -> None:
    clip = open_clip.create_model(name, pretrained=None).eval()
    assert_image_features_agree(clip, pixels(2, torch.float32), 1e-4)
    assert_text_features_agree(clip, 1e-4)


@every_clip
def test_towers_read_their_widths_and_depths_off_the_modules(
    make: Callable[[], Any],
) -> None:
    clip = make()
    vision, text = VisionTower(clip.visual), TextTower(clip)
    assert (vision.width, vision.embed_dim, text.width) == (32, 16, 16)
    assert vision.depth == len(clip.visual.transformer.resblocks)
    assert text.depth == len(text.text.transformer.resblocks)


def test_a_text_run_only_as_long_as_it_needs_gives_the_features_of_the_full_length() -> None:
    tower = TextTower(tiny.random_clip().double())
    ids = padded(TEXTS, 77)
    short = ids[:, : int(ends_of(ids).max()) + 1]
    assert short.shape[1] < 20
    with torch.no_grad():
        torch.testing.assert_close(
            tower.encode(tower.embed(short), ends_of(ids)),
            tower.encode(tower.embed(ids), ends_of(ids)),
            atol=1e-12,
            rtol=1e-12,
        )


def prompted_vision_slowly(clip: Any, x: Tensor, prompts: Tensor, position: str) -> Tensor:
    """CLIP-AGIQA section II-B, token by token, through open_clip's blocks: features [B, d]."""
    visual = clip.visual
    patches = visual.conv1(x)
    patches = patches.reshape(*patches.shape[:2], -1).permute(0, 2, 1)
    features = []
    for row in patches:
        tokens = torch.stack([visual.class_embedding, *row]) + visual.positional_embedding
        count, layers, length = len(tokens), prompts.shape[0], prompts.shape[1]
        if position == "post_ln":
            tokens = visual.ln_pre(tokens)
        tokens = torch.cat([tokens, prompts[0]])
        if position == "pre_ln":
            tokens = visual.ln_pre(tokens)
        for layer, block in enumerate(visual.transformer.resblocks):
            if 0 < layer < layers:
                for i in range(length):
                    tokens[count + i] = prompts[layer, i]
            tokens = block(tokens[None])[0]
        features.append(visual.ln_post(tokens)[0] @ visual.proj)
    return torch.stack(features)


@pytest.mark.parametrize("depth", [1, 2, 4], ids=["shallow", "half", "deep"])
@pytest.mark.parametrize("position", ["pre_ln", "post_ln"])
@pytest.mark.parametrize("stem", [(), (8, 8, 8, 16)], ids=["patches", "stem"])
def test_prompted_vision_tower_is_the_literal_token_surgery(
    stem: tuple[int, ...], position: Any, depth: int
) -> None:
    clip = tiny.random_clip(tiny.variant({"layers": 4}, stem=stem)).double()
    tower = VisionTower(clip.visual, position)
    prompts = torch.randn(depth, 3, 32, dtype=torch.float64)
    x = pixels(2)
    with torch.no_grad():
        ours = tower.encode(tower.patchify(x), prompts[None])
        slow = prompted_vision_slowly(clip, x, prompts, position)
        bare = tower.encode(tower.patchify(x))
    torch.testing.assert_close(ours, slow, atol=1e-9, rtol=1e-9)
    assert not torch.allclose(ours, bare, atol=1e-3)


def test_each_row_runs_under_its_own_prompts() -> None:
    clip = tiny.random_clip().double()
    tower = VisionTower(clip.visual)
    prompts = torch.randn(2, 2, 3, 32, dtype=torch.float64)
    tokens = tower.patchify(pixels(2))
    with torch.no_grad():
        together = tower.encode(tokens, prompts)
        apart = [tower.encode(tokens[i : i + 1], prompts[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-12, rtol=1e-12)


def test_an_empty_stack_of_prompts_is_no_prompts() -> None:
    clip = tiny.random_clip().double()
    tower = VisionTower(clip.visual)
    tokens = tower.patchify(pixels(2))
    with torch.no_grad():
        none = tower.encode(tokens, torch.empty(1, 0, 3, 32, dtype=torch.float64))
        torch.testing.assert_close(none, tower.encode(tokens))


def prompted_text_slowly(
    clip: Any, words: Sequence[str], context: Tensor, deep: Tensor | None
) -> Tensor:
    """[start, context, words, end] at the full length under open_clip's own mask: features."""
    features = []
    for word in words:
        ids = padded([" ".join(["x"] * len(context)) + " " + word], clip.context_length)[0]
        tokens = clip.token_embedding(ids)
        for i, vector in enumerate(context):
            tokens[1 + i] = vector
        tokens = tokens + clip.positional_embedding
        for layer, block in enumerate(clip.transformer.resblocks):
            if deep is not None and 0 < layer <= len(deep):
                for i, vector in enumerate(deep[layer - 1]):
                    tokens[1 + i] = vector
            tokens = block(tokens[None], attn_mask=clip.attn_mask)[0]
        features.append(clip.ln_final(tokens)[ids.argmax()] @ clip.text_projection)
    return torch.stack(features)


@pytest.mark.parametrize("depth", [None, 1, 3], ids=["context-only", "half", "deep"])
def test_prompted_text_tower_is_the_literal_token_surgery(depth: int | None) -> None:
    clip = tiny.random_clip(tiny.variant(text={"layers": 4})).double()
    context = torch.randn(3, 16, dtype=torch.float64)
    deep = None if depth is None else torch.randn(depth, 3, 16, dtype=torch.float64)
    words = ["good photo.", "misaligned photo."]
    tokenizer = Tokenizer()
    with torch.no_grad():
        ours = encode_with_context(
            TextTower(clip), [tokenizer(word) for word in words], context, tokenizer, deep
        )
        slow = prompted_text_slowly(clip, words, context, deep)
    torch.testing.assert_close(ours, slow, atol=1e-9, rtol=1e-9)
    assert not torch.allclose(ours[0], ours[1], atol=1e-3)


UNSUPPORTED = {
    "resnet": (
        tiny.variant({"layers": (1, 1, 1, 1), "width": 16}, stem=()),
        "ViT image tower.*ModifiedResNet",
    ),
    "timm": (
        tiny.variant(
            {
                "timm_model_name": "vit_tiny_patch16_224",
                "timm_model_pretrained": False,
                "timm_pool": "token",
                "timm_proj": "linear",
            },
            stem=(),
        ),
        "ViT image tower.*TimmModel",
    ),
    "average-pooling": (tiny.variant({"pool_type": "avg"}), "class-token pooling.*avg"),
    "no-pooling": (tiny.variant({"pool_type": "none"}), "class-token pooling.*none"),
    "attentional-pooling": (
        tiny.variant({"attentional_pool": True, "attn_pooler_heads": 2}),
        "class-token pooling.*attentional",
    ),
    "unmasked-text": (tiny.variant(text={"no_causal_mask": True}), "causal text tower"),
    "last-token-text": (tiny.variant(text={"pool_type": "last"}), "end-of-text token.*last"),
    "eos-text": (tiny.variant(text={"pool_type": "eos"}), "end-of-text token.*eos"),
    "other-vision-layers": (
        tiny.variant({"qk_norm": True}),
        "CustomResidualAttentionBlock layers",
    ),
    "other-text-layers": (
        tiny.variant(text={"scale_fc": True}),
        "CustomResidualAttentionBlock layers",
    ),
}


def both_towers(clip: Any) -> None:
    """What a prompted method asks of a CLIP."""
    VisionTower(clip.visual)
    TextTower(clip)


@pytest.mark.parametrize(("architecture", "says"), UNSUPPORTED.values(), ids=UNSUPPORTED.keys())
def test_a_backbone_that_takes_no_prompts_is_refused_by_name(
    architecture: Architecture, says: str
) -> None:
    with pytest.raises(BackboneError, match=says):
        both_towers(build(architecture))


def test_a_text_tower_with_an_added_class_token_is_refused_by_name() -> None:
    clip = open_clip.CustomTextCLIP(
        embed_dim=16,
        vision_cfg=dict(tiny.ARCHITECTURE.vision_cfg),
        text_cfg=tiny.ARCHITECTURE.text_cfg | {"embed_cls": True},
    )
    with pytest.raises(BackboneError, match=r"end-of-text token.*class token"):
        both_towers(clip)


def test_a_stem_that_does_not_fit_the_patch_size_is_refused() -> None:
    with pytest.raises(BackboneError, match="patches of 16, not"):
        tiny.random_clip(tiny.variant(stem=(8, 8, 16)))
