"""CLIPScore against the equation, written with open_clip's own calls, for towers of every kind."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from model.clip.backbone import build
from model.config import BackboneConfig, CheckpointConfig, CropPolicy
from model.errors import PromptTooLong
from model.methods.network import Views
from model.methods.registry import build_network
from model.scorer import Scorer
from tests.model import tiny

SIDE = 64
PICTURE = tiny.picture(150, 130)
PROMPTS = ("a red lighthouse", "A CAT, in the rain; 3d render (blurred)", "雨の中の猫")
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VISION = {"image_size": SIDE, "patch_size": 32, "width": 32, "layers": 2, "head_width": 16}
TIMM = {"timm_model_name": "test_vit", "timm_model_pretrained": False, "timm_pool": "avg"}
# As CLIP's, its ResNets, SigLIP's and MobileCLIP's are, in miniature.
KINDS: Mapping[str, dict[str, Any]] = {
    "vit": {"vision_cfg": VISION, "text_cfg": TEXT},
    "resnet": {
        "vision_cfg": {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": 16},
        "text_cfg": TEXT,
    },
    "siglip": {
        "custom_text": True,
        "init_logit_bias": -10,
        "vision_cfg": TIMM | {"image_size": SIDE, "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": TEXT | {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    },
    "mobile": {
        "custom_text": True,
        "vision_cfg": TIMM | {"image_size": SIDE, "timm_proj": "linear"},
        "text_cfg": TEXT | {"no_causal_mask": True},
    },
}


def clip_of(kind: str) -> nn.Module:
    """A CLIP of that kind with random weights."""
    settings = {"embed_dim": SIDE, **KINDS[kind]}
    custom = settings.pop("custom_text", False)
    torch.manual_seed(0)
    make = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    clip: nn.Module = make(**settings).eval()
    tiny.shake(clip)
    return clip


def scorer_of(clip: nn.Module, policy: CropPolicy | None = None, **options: Any) -> Scorer:
    config = CheckpointConfig(
        name="clipscore",
        method="clipscore",
        backbone=BackboneConfig(source="checkpoint", name="any"),
        heads=("quality", "consistency"),
        crop_policy=policy or CropPolicy(size=SIDE, max_windows=1),
    )
    network = build_network("clipscore", clip, options)
    return Scorer(config, network, device="cpu", dtype="float32")


@torch.no_grad()
def image_features(clip: Any, scorer: Scorer) -> Tensor:
    """Of the whole image, squashed, by open_clip's own call."""
    pixels = np.asarray(PICTURE.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) / 255
    own = scorer.config.normalisation
    normal = (torch.tensor(pixels).float() - torch.tensor(own.mean)) / torch.tensor(own.std)
    return F.normalize(clip.encode_image(normal.permute(2, 0, 1)[None]), dim=-1)[0]


@torch.no_grad()
def text_features(clip: Any, texts: list[str]) -> Tensor:
    return F.normalize(clip.encode_text(open_clip.tokenize(texts)), dim=-1)


@pytest.mark.parametrize("kind", KINDS)
def test_consistency_is_the_mapped_cosine_and_quality_the_antonyms_probability(kind: str) -> None:
    clip: Any = clip_of(kind)
    z = image_features(clip, scorer := scorer_of(clip))
    for prompt in PROMPTS:
        score = scorer.score(PICTURE, prompt)
        cosine = float(z @ text_features(clip, [f"A photo depicts {prompt}"])[0])
        assert score.consistency == pytest.approx((1 + cosine) / 2, abs=1e-5)
    pair = text_features(clip, ["Good photo.", "Bad photo."])
    wanted = (clip.logit_scale.exp() * pair @ z).softmax(0)[0]
    assert scorer.score(PICTURE).quality == pytest.approx(float(wanted), abs=1e-5)
    assert scorer.score(PICTURE).consistency is None


def test_the_map_rises_strictly_over_all_cosines() -> None:
    head: Any = scorer_of(clip_of("vit"))._net
    z = F.normalize(torch.randn(64, SIDE, generator=torch.Generator().manual_seed(0)), dim=-1)
    values = [float(head.reading("consistency", z[0]).value(Views(row[None], None))) for row in z]
    cosines = (z @ z[0]).tolist()
    assert np.argsort(values).tolist() == np.argsort(cosines).tolist()
    assert min(cosines) < 0  # where 2.5 max(c, 0) is flat
    assert len(set(values)) == 64


def test_a_prompt_longer_than_the_context_is_read_in_parts_each_behind_the_prefix() -> None:
    clip = clip_of("vit")
    scorer = scorer_of(clip)
    halves = ["a red house " * 20, "a blue lake " * 20]
    whole = ", ".join(text.strip() for text in halves)
    texts = [f"A photo depicts {text.strip()}" for text in (halves[0].strip() + ",", halves[1])]
    wanted = F.normalize(text_features(clip, texts).mean(0), dim=-1)
    assert torch.allclose(scorer.embed([whole])[0], wanted, atol=1e-5)
    with pytest.raises(PromptTooLong, match="513 tokens"):
        scorer.check_prompt("a " * 513)


@pytest.mark.parametrize("kind", ["vit", "mobile"])
def test_both_heads_share_one_view_whose_features_are_computed_once(kind: str) -> None:
    clip = clip_of(kind)
    scorer = scorer_of(clip)
    layout = scorer.plan(4000, 3000, prompt="a cat")
    assert (layout.crops, layout.rows, layout.shape) == (1, 2, (SIDE, SIDE))
    network: Any = scorer._net
    seen: list[int] = []
    real = network.vision.encode

    def counted(pixels: Tensor, prompts: Tensor | None = None) -> Tensor:
        seen.append(len(pixels))
        features: Tensor = real(pixels, prompts)
        return features

    network.vision.encode = counted
    rows = scorer.forward(scorer.crops(PICTURE), (0, 0), (0, 1))
    assert seen == [1]
    assert np.array_equal(rows[0], rows[1])


def test_more_views_are_averaged_before_the_cosine() -> None:
    scorer = scorer_of(clip_of("vit"), CropPolicy(size=SIDE, stride=SIDE))
    layout = scorer.plan(*PICTURE.size, prompt="a cat")
    rows = torch.from_numpy(scorer.rows(PICTURE, layout))[layout.windows :]
    z = F.normalize(rows.mean(0), dim=-1)
    assert len(rows) == layout.windows + 1  # and the whole image
    wanted = (1 + float(z @ scorer.embed(["a cat"])[0])) / 2
    assert scorer.score(PICTURE, "a cat").consistency == pytest.approx(wanted, abs=1e-6)


def test_a_prefix_that_leaves_no_room_for_a_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="the prefix leaves 2 tokens for a prompt: shorten it"):
        build_network("clipscore", clip_of("vit"), {"prefix": "a " * 73})


def test_our_own_architecture_will_do() -> None:
    scorer = scorer_of(build(tiny.ARCHITECTURE).eval(), CropPolicy(max_windows=1))
    score = scorer.score(PICTURE, "a cat")
    assert score.consistency is not None
    assert 0 < score.consistency < 1


def test_clip_iqa_takes_the_same_clips_in_crops() -> None:
    clip: Any = clip_of("siglip")
    network = build_network("clip-iqa", clip, {"attributes": []})
    config = CheckpointConfig(
        name="clip-iqa",
        method="clip-iqa",
        backbone=BackboneConfig(source="checkpoint", name="any"),
        crop_policy=CropPolicy(size=SIDE, max_windows=1),
        heads=("quality",),
    )
    scorer = Scorer(config, network, device="cpu", dtype="float32")
    z = image_features(clip, scorer)
    pair = text_features(clip, ["Good photo.", "Bad photo."])
    wanted = (clip.logit_scale.exp() * pair @ z).softmax(0)[0]
    assert scorer.score(PICTURE).quality == pytest.approx(float(wanted), abs=1e-5)
