"""Tiny networks of every method to explain, and one made by hand that likes bright patches."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from model.config import BackboneConfig, CheckpointConfig, CropPolicy, Head, Normalisation
from model.methods.clip_iqa import ClipIqa, ClipIqaOptions
from model.methods.network import Network
from model.methods.registry import build_network
from model.scorer import Scorer
from tests.model import tiny
from tests.model.methods import mp_iqe_reference
from training.research.explain.subject import Subject

POLICY = CropPolicy(max_side=1024, global_view=True)
# Name -> method, options, heads.
METHODS: Mapping[str, tuple[str, dict[str, Any], tuple[Head, ...]]] = {
    "clip-agiqa": (
        "clip-agiqa",
        tiny.OPTIONS.model_dump(),
        ("quality", "alignment", "consistency"),
    ),
    "clip-agiqa-visual-only": (
        "clip-agiqa",
        {"auxiliary_task": False, "deep_text_prompts": False, "visual_length": 3},
        ("quality",),
    ),
    "mp-iqe": ("mp-iqe", mp_iqe_reference.OPTIONS.model_dump(), ("quality",)),
    "mp-iqe-shallow": (
        "mp-iqe",
        mp_iqe_reference.ABLATIONS["shallow"].model_dump(),
        ("quality",),
    ),
    "mp-iqe-visual-only": (
        "mp-iqe",
        mp_iqe_reference.ABLATIONS["visual-only"].model_dump(),
        ("quality",),
    ),
    "clip-iqa": ("clip-iqa", {}, ("quality",)),
    "clip-iqa-plus": ("clip-iqa-plus", {"context_length": 5}, ("quality",)),
    "liqe": ("liqe", {}, ("quality",)),
}
CASES = [(name, head) for name, (_, _, heads) in METHODS.items() for head in heads]


def config_of(name: str, **changes: Any) -> CheckpointConfig:
    method, options, heads = METHODS[name]
    settings = {
        "name": name,
        "method": method,
        "backbone": BackboneConfig(source="checkpoint", architecture=tiny.ARCHITECTURE),
        "options": options,
        "heads": heads,
        "crop_policy": POLICY,
    }
    return CheckpointConfig(**(settings | changes))


def network_of(name: str) -> Network:
    """Every learned number of it different from its start."""
    method, options, _ = METHODS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network(method, tiny.random_clip(), options)
        with torch.no_grad():
            for parameter in network.stored().values():
                parameter.add_(0.1 * torch.randn(parameter.shape))
            # Scores far inside of 0 and 1, so that none of them is clipped.
            decoder = getattr(network, "decoder", None)
            if decoder is not None:
                decoder.head[2].weight.mul_(0.1)
            consistency = getattr(network, "consistency", None)
            if consistency is not None:
                consistency.alpha.fill_(2.0)
                consistency.bias.fill_(0.0)
            network.logit_scale.fill_(1.0)
    return network


def subject_of(name: str, **changes: Any) -> Subject:
    return Subject(config_of(name, **changes), network_of(name), device="cpu")


def scorer_of(name: str, **changes: Any) -> Scorer:
    return Scorer(config_of(name, **changes), network_of(name), device="cpu", dtype="float32")


def fond_of_brightness() -> Subject:
    """CLIP-IQA of one layer, made by hand: a patch is its mean brightness above grey, in the first
    channel; the class token attends to all alike; what it reads there raises the score.
    """
    clip = tiny.random_clip(tiny.variant({"layers": 1, "no_ln_pre": True}, stem=()))
    network = ClipIqa(clip, ClipIqaOptions(attributes=()))
    good, bad = network.text_features()["quality"].detach()
    up = nn.functional.normalize(good - bad, dim=0)
    visual: Any = network.vision.visual
    (block,) = visual.transformer.resblocks
    with torch.no_grad():
        for parameter in visual.parameters():
            parameter.zero_()
        for norm in (block.ln_1, block.ln_2, visual.ln_post):
            norm.weight.fill_(1)
        visual.conv1.weight[0] = 1 / visual.conv1.weight[0].numel()
        visual.class_embedding[1] = 1
        width = len(visual.class_embedding)
        block.attn.in_proj_weight[2 * width :] = torch.eye(width)
        block.attn.out_proj.weight.copy_(torch.eye(width))
        visual.proj[0] = up
        visual.proj[1] = nn.functional.normalize(good + bad, dim=0)  # at a right angle to ``up``
        network.logit_scale.fill_(1.0)
    grey = Normalisation(mean=(128 / 255,) * 3, std=(1.0,) * 3)
    policy = CropPolicy(max_side=1024)
    return Subject(
        config_of("clip-iqa", normalisation=grey, crop_policy=policy), network, device="cpu"
    )
