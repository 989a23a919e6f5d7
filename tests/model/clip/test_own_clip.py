"""Our own CLIP holds what open_clip's would, and needs nothing but torch."""

import subprocess
import sys
from typing import Any

import open_clip
import pytest
import torch

from model.clip.backbone import build
from model.clip.own_clip import OwnClip
from model.clip.towers import TextTower, VisionTower
from model.config import Architecture
from model.errors import BackboneError

VISION = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32}
TEXT = {"layers": 3, "width": 16, "heads": 2, "context_length": 20}


def open_clips(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return open_clip.CLIP(24, vision_cfg=dict(VISION), text_cfg=dict(TEXT))


def ours(seed: int = 0) -> OwnClip:
    torch.manual_seed(seed)
    return OwnClip(24, VISION, TEXT)


def test_random_weights_are_open_clip_s_bit_by_bit() -> None:
    wanted, found = open_clips().state_dict(), ours().state_dict()
    assert list(found) == list(wanted)
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_the_towers_make_of_it_what_open_clip_makes_of_its_own() -> None:
    reference, clip = open_clips().eval(), ours().eval()
    pixels = torch.randn(3, 3, 32, 32)
    ids = torch.zeros(2, 20, dtype=torch.long)
    ids[:, :4] = torch.tensor([[49406, 320, 1929, 49407], [49406, 5, 49407, 0]])
    vision, text = VisionTower(clip.visual), TextTower(clip)
    with torch.no_grad():
        torch.testing.assert_close(
            vision.encode(vision.patchify(pixels)), reference.encode_image(pixels)
        )
        torch.testing.assert_close(
            text.encode(text.embed(ids), ids.argmax(1)), reference.encode_text(ids)
        )


@pytest.mark.parametrize(
    ("vision", "text", "said"),
    [
        ({"width": 30}, {}, "30 has no heads of 16"),
        ({"image_size": 30}, {}, "no whole patches of 8"),
        ({}, {"heads": 3}, "can't be shared by 3 heads"),
    ],
)
def test_settings_that_make_no_clip_are_named(
    vision: dict[str, Any], text: dict[str, Any], said: str
) -> None:
    architecture = Architecture(
        embed_dim=24, vision_cfg={**VISION, **vision}, text_cfg={**TEXT, **text}
    )
    with pytest.raises(BackboneError, match=said):
        build(architecture)


@pytest.mark.parametrize(
    ("vision", "text"), [({}, {"ls_init_value": 0.1}), ({"image_size": [32, 48]}, {})]
)
def test_other_settings_of_open_clip_s_are_left_to_it(
    vision: dict[str, Any], text: dict[str, Any]
) -> None:
    architecture = Architecture(
        embed_dim=24, vision_cfg={**VISION, **vision}, text_cfg={**TEXT, **text}
    )
    assert isinstance(build(architecture), open_clip.CLIP)


def test_scoring_by_a_bundled_model_imports_neither_open_clip_nor_torchvision() -> None:
    """They would take longer than all else on the way from start to ready."""
    code = (
        "import sys, numpy as np, model\n"
        "for name in ('tiny-clip-agiqa', 'tiny-mpiqe'):\n"
        "    model.load(name, device='cpu').score(np.zeros((224, 224, 3), np.uint8))\n"
        "print(sorted({'open_clip', 'torchvision', 'timm', 'torch._dynamo'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
