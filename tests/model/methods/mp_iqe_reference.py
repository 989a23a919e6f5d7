"""MP-IQE (arXiv 2404.14949) in numpy and float64, equation by equation, with plain loops: it reads
the weights off the modules and calls nothing of ours. Below it, tiny networks to compare with.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import BackboneConfig, CheckpointConfig, CropPolicy, Normalisation
from model.methods.mp_iqe import MpIqe, MpIqeOptions, Outputs
from model.methods.network import Network, mix_views
from model.preprocess.crops import CropPlanner
from model.scorer import Scorer
from model.store.checkpoint import save_checkpoint
from tests.model import tiny

Array = np.ndarray

# The names of section III-B of the paper.
SCENES = ["animal", "cityscape", "human", "indoor scene", "landscape", "night scene", "plant"]
SCENES += ["still-life", "others"]
DISTORTIONS = ["blur", "color-related", "contrast", "JPEG compression", "JPEG2000 compression"]
DISTORTIONS += ["noise", "over-exposure", "quantization", "under-exposure", "spatially-localized"]
DISTORTIONS += ["others"]


def numbers(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def unit(vector: Array) -> Array:
    return vector / math.sqrt((vector**2).sum())


def softmax(logits: Sequence[float] | Array) -> Array:
    powers = np.exp(np.asarray(logits) - np.max(logits))
    return powers / powers.sum()


def linear(layer: Any, x: Array) -> Array:
    bias = 0.0 if layer.bias is None else numbers(layer.bias)
    return x @ numbers(layer.weight).T + bias


def norm(layer: Any, x: Array) -> Array:
    """Layer norm of the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + layer.eps)
    return centred / deviation * numbers(layer.weight) + numbers(layer.bias)


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def quick_gelu(x: Array) -> Array:
    return x / (1 + np.exp(-1.702 * x))


ACTIVATIONS: dict[type[nn.Module], Callable[[Array], Array]] = {
    QuickGELU: quick_gelu,
    nn.GELU: gelu,
}


def attend(q: Array, k: Array, v: Array, heads: int, *, causal: bool = False) -> Array:
    """[n, w], [m, w], [m, w] -> [n, w], head by head and query by query."""
    size = q.shape[1] // heads
    out = np.zeros_like(q)
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        for i, query in enumerate(q[:, own]):
            seen = i + 1 if causal else len(k)
            weights = softmax([query @ key / math.sqrt(size) for key in k[:seen, own]])
            for weight, value in zip(weights, v[:seen, own], strict=True):
                out[i, own] += weight * value
    return out


def clip_layer(block: Any, x: Array, *, causal: bool = False) -> Array:
    """A layer of CLIP: x + MHSA(LN x), then x + MLP(LN x)."""
    width = x.shape[1]
    weight, bias = numbers(block.attn.in_proj_weight), numbers(block.attn.in_proj_bias)
    normed = norm(block.ln_1, x)
    q, k, v = (
        normed @ weight[start : start + width].T + bias[start : start + width]
        for start in (0, width, 2 * width)
    )
    x = x + linear(block.attn.out_proj, attend(q, k, v, block.attn.num_heads, causal=causal))
    hidden = linear(block.mlp.c_fc, norm(block.ln_2, x))
    return x + linear(block.mlp.c_proj, ACTIVATIONS[type(block.mlp.gelu)](hidden))


def text_features(clip: Any, context: Tensor, names: Sequence[str]) -> Array:
    """Eq. 6: normalised features [c, d] of [SOS, V_1 .. V_n, BPE(name), EOS]."""
    embeddings, positions = numbers(clip.token_embedding.weight), numbers(clip.positional_embedding)
    tokenizer = open_clip.SimpleTokenizer()
    features = []
    for name in names:
        ids = tokenizer([name])[0].numpy()
        end = ids.argmax()
        sequence = [embeddings[ids[0]], *numbers(context), *embeddings[ids[1 : end + 1]]]
        x = np.stack([token + positions[i] for i, token in enumerate(sequence)])
        for block in clip.transformer.resblocks:
            x = clip_layer(block, x, causal=True)
        features.append(unit(norm(clip.ln_final, x[-1]) @ numbers(clip.text_projection)))
    return np.stack(features)


def image_tokens(visual: Any, pixels: Array, prompts: Array, position: str = "post_ln") -> Array:
    """Eq. 7: [CLS, patches] [1 + n, w] of one crop [3, h, w] after ``ln_post``, with the prompts
    [layers, P, w] put behind them; fewer prompts than layers are carried on.
    """
    kernel = numbers(visual.conv1.weight)
    side = kernel.shape[-1]
    tokens = [numbers(visual.class_embedding)]
    for y in range(0, pixels.shape[1], side):
        for x in range(0, pixels.shape[2], side):
            patch = pixels[:, y : y + side, x : x + side]
            tokens.append(np.array([(one * patch).sum() for one in kernel]))
    image = np.stack(tokens) + numbers(visual.positional_embedding)
    count = len(image)
    if not len(prompts):
        sequence = norm(visual.ln_pre, image)
    elif position == "post_ln":
        sequence = np.concatenate([norm(visual.ln_pre, image), prompts[0]])
    else:
        sequence = norm(visual.ln_pre, np.concatenate([image, prompts[0]]))
    for layer, block in enumerate(visual.transformer.resblocks):
        if 0 < layer < len(prompts):
            sequence = np.concatenate([sequence[:count], prompts[layer]])
        sequence = clip_layer(block, sequence)
    return norm(visual.ln_post, sequence[:count])


def scene_probabilities(network: MpIqe, tokens: Array, scenes: Array) -> Array:
    """Eq. 8 with T = 1 / s: p = softmax_c(CLS . V^s_c / T)."""
    temperature = 1 / math.exp(float(network.logit_scale))
    cls = unit(tokens[0] @ numbers(network.vision.visual.proj))
    return softmax([cls @ scene / temperature for scene in scenes])


def max_pooled(square: Array, side: int) -> list[Array]:
    """Adaptive max pool of [n, n, d]: cell i covers rows floor(i n / side) to ceil((i+1) n / side),
    row by row.
    """
    n = len(square)
    spans = [range(i * n // side, -(-(i + 1) * n // side)) for i in range(side)]
    return [
        np.max([square[y, x] for y in rows for x in columns], axis=0)
        for rows in spans
        for columns in spans
    ]


def distortion_probabilities(
    network: MpIqe, tokens: Array, distortions: Array, side: int, region_temperature: float
) -> Array:
    """Eq. 10: a_c = sum_i softmax_i(S_ic / Tbar) S_ic;  p = softmax_c(a_c / T)."""
    temperature = 1 / math.exp(float(network.logit_scale))
    patches = linear(network.projection, tokens[1:])
    grid = round(math.sqrt(len(patches)))
    regions = max_pooled(patches.reshape(grid, grid, -1), side)
    logits = []
    for distortion in distortions:
        similarity = [unit(region) @ distortion for region in regions]
        weights = softmax([s / region_temperature for s in similarity])
        logits.append(sum(w * s for w, s in zip(weights, similarity, strict=True)) / temperature)
    return softmax(logits)


def score(decoder: Any, queries: Array, memory: Array, heads: int) -> float:
    """Eq. 12 to 14 with Q = ``queries`` [n, d] and I' = ``memory`` [m, d], through every layer."""
    x = queries
    for layer in decoder.layers:
        normed = norm(layer.norm_self, x)
        x = x + multi_head(layer.self_attention, normed, normed, heads)
        x = x + multi_head(layer.cross_attention, norm(layer.norm_cross, x), memory, heads)
        x = x + linear(layer.mlp[2], gelu(linear(layer.mlp[0], norm(layer.norm_mlp, x))))
    each = [
        float(linear(decoder.head[2], gelu(linear(decoder.head[0], query)))[0])
        for query in norm(decoder.norm, x)
    ]
    return sum(each) / len(each)


def multi_head(module: Any, queries: Array, keys: Array, heads: int) -> Array:
    q, k, v = linear(module.q, queries), linear(module.k, keys), linear(module.v, keys)
    return linear(module.out, attend(q, k, v, heads))


def queries(network: MpIqe) -> list[Array]:
    """Eq. 12: V^s and V^d, those of them that the ablation left; without both, the one query."""
    if network.options.visual_only:
        return [numbers(cast(Tensor, network.query))]
    kinds = ((network.scene_context, SCENES), (network.distortion_context, DISTORTIONS))
    clip = network.text.text
    return [text_features(clip, context, names) for context, names in kinds if context is not None]


def everything(network: MpIqe, pixels: Array, texts: list[Array]) -> dict[str, Array]:
    """Of one crop [3, h, w]: ``tokens``, ``score`` [], and the probabilities ``scene`` and
    ``distortion``, where the ablation left them.
    """
    o, prompts = network.options, numbers(network.visual_prompts)
    tokens = image_tokens(network.vision.visual, pixels, prompts, o.prompt_position)
    memory = linear(network.projection, tokens)
    attended = np.concatenate(texts)
    out = {"tokens": tokens}
    out["score"] = np.array(score(network.decoder, attended, memory, o.decoder_heads))
    if o.scene_prompts:
        out["scene"] = scene_probabilities(network, tokens, texts[0])
    if o.distortion_prompts:
        out["distortion"] = distortion_probabilities(
            network, tokens, texts[-1], o.region_side, o.region_temperature
        )
    return out


# Tiny networks.

OPTIONS = MpIqeOptions(context_length=3, visual_length=2, decoder_heads=4)
# Three layers, so that "every later layer" is more than one; patches are one plain convolution.
ARCHITECTURE = tiny.variant({"layers": 3}, stem=())
CHANGES: dict[str, dict[str, Any]] = {
    "paper": {},
    "no-scene": {"scene_prompts": False},
    "no-distortion": {"distortion_prompts": False},
    "shallow": {"visual_prompts": "shallow"},
    "no-visual": {"visual_prompts": "none"},
    "pre-ln": {"prompt_position": "pre_ln"},
    "scene-alone": {"distortion_prompts": False, "visual_prompts": "none"},
    "visual-only": {"scene_prompts": False, "distortion_prompts": False},
}
ABLATIONS = {name: OPTIONS.model_copy(update=changes) for name, changes in CHANGES.items()}


def changed(**changes: Any) -> MpIqeOptions:
    return OPTIONS.model_copy(update=changes)


def fresh(options: MpIqeOptions = OPTIONS, clip: nn.Module | None = None, seed: int = 0) -> MpIqe:
    """MP-IQE as training starts it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MpIqe(clip or tiny.random_clip(ARCHITECTURE, seed), options).eval()


def shaken(options: MpIqeOptions = OPTIONS, clip: nn.Module | None = None, seed: int = 0) -> MpIqe:
    """MP-IQE with every learned number different from its start."""
    network = fresh(options, clip, seed)
    perturb(network, seed)
    return network


def perturb(network: MpIqe, seed: int, std: float = 0.2) -> None:
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.trainable_parameters().values():
            parameter.add_(std * torch.randn(parameter.shape, generator=noise))


def outputs(network: Network, x: Tensor) -> dict[str, Tensor]:
    """By name: the score [B], and the probabilities of what the ablation left."""
    with torch.no_grad():
        out = network(x)
    logits = {"scene": out.scene, "distortion": out.distortion}
    return {"score": out.score} | {n: z.softmax(-1) for n, z in logits.items() if z is not None}


def scorer_of(network: MpIqe, dtype: str = "float32", **changes: Any) -> Scorer:
    """It takes the network over."""
    return Scorer(config_of(network.options, **changes), network, device="cpu", dtype=dtype)


def views_of(network: MpIqe, picture: Image.Image, policy: CropPolicy) -> dict[str, Array]:
    """Outputs of the unfolded network for each crop on its own, windows before the global view."""
    config = config_of(network.options, crop_policy=policy)
    mean, std = config.normalisation.mean, config.normalisation.std
    rows = []
    for crop in CropPlanner(config).crops(picture):
        normalised = (crop.transpose(1, 2, 0) / 255 - mean) / std
        rows.append(outputs(network, torch.tensor(normalised.transpose(2, 0, 1)[None]).float()))
    return {name: torch.cat([row[name] for row in rows]).numpy() for name in rows[0]}


def config_of(options: MpIqeOptions = OPTIONS, **changes: Any) -> CheckpointConfig:
    settings: dict[str, Any] = {
        "name": "tiny-mp-iqe",
        "method": "mp-iqe",
        "backbone": BackboneConfig(source="checkpoint", architecture=ARCHITECTURE),
        "options": options.model_dump(),
        "heads": ("quality",),
        "crop_policy": CropPolicy(max_side=1024),
        "normalisation": Normalisation(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)),
    }
    return CheckpointConfig(**(settings | changes))


def pixels(count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    noise = torch.Generator().manual_seed(2)
    return torch.randn(count, 3, 224, 224, generator=noise, dtype=torch.float64).to(dtype)


def sizes(options: MpIqeOptions) -> dict[str, int]:
    """How many numbers each learned parameter has, empty ones left out."""
    return {n: p.numel() for n, p in fresh(options).trainable_parameters().items() if p.numel()}


def loss_of_every_output(network: MpIqe, x: Tensor) -> Tensor:
    """Score, scene, distortion, and the first crop mixed with the second as a global view."""
    out: Outputs = network(x)
    mixed = mix_views(out.score[0], out.score[1], torch.sigmoid(network.global_logit))
    loss = mixed.square() + out.score.square().sum()
    for target, logits in enumerate((out.scene, out.distortion)):
        if logits is not None:
            loss = loss + F.cross_entropy(logits, torch.full((len(x),), 3 + target))
    return loss


def save(network: MpIqe, clip: nn.Module, folder: Path) -> None:
    config = config_of(network.options)
    save_checkpoint(
        folder, config, network, card="", metrics={}, backbone=clip, dtype=torch.float32
    )


ODD: dict[str, Image.Image] = {
    "one-pixel": tiny.picture(1, 1),
    "wide": tiny.picture(150, 3),
    "tall": tiny.picture(3, 150),
    "grey": tiny.picture(300, 260).convert("L"),
    "one-colour": Image.new("RGB", (224, 224), (128, 128, 128)),
    "one-window": tiny.picture(224, 224),
    "large": tiny.picture(2600, 1900),
}


def assert_equations(network: MpIqe, x: Tensor) -> None:
    """Eq. 6 to 14 of float64 crops [B, 3, 224, 224]."""
    texts = queries(network)
    with torch.no_grad():
        tokens = network.tokens(x)
        own_queries = network.texts().queries
    assert own_queries.numpy() == pytest.approx(np.concatenate(texts), abs=1e-10)
    ours = outputs(network, x) | {"tokens": tokens}
    for row, crop in enumerate(x):
        slow = everything(network, crop.numpy(), texts)
        assert slow.keys() == ours.keys()
        for name, value in slow.items():
            assert ours[name][row].numpy() == pytest.approx(value, abs=1e-9)
