"""Weights in the layout of the published CLIP-AGIQA code -> a checkpoint.

The published layout has two files, one per task. Auxiliary: ``ctx``, ``prompts_text.{i}``,
``prompts_vis.{i}``. Main: the same plus ``proj`` (the Linear of layer 1) and
``compound_prompt_projections.{i}`` (layers 2...); the order of the concatenation is (main,
auxiliary). ``token_prefix`` and ``token_suffix`` are recomputed, so they are left out.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from model.clip.backbone import load_backbone
from model.clip.weights import load_strictly, read_weights, sha256_of
from model.config import (
    BackboneConfig,
    CheckpointConfig,
    CropPolicy,
    Provenance,
    ScoreRange,
)
from model.errors import CheckpointError
from model.methods.clip_agiqa import ClipAgiqa, ClipAgiqaOptions
from model.methods.policy import serving_policy
from model.store.checkpoint import save_checkpoint

# What the published code trained on, with the range of the scores, and its rounds on each.
_TRAINED_ON: Mapping[str, ScoreRange] = {
    "AGIQA-3K": ScoreRange(high=5.0),
    "AIGCIQA2023": ScoreRange(high=100.0),
}
_ROUNDS = 10
_IGNORED = re.compile(r"(^|\.)token_(prefix|suffix)$")
# Published checkpoints name the learner by a prefix of their module tree.
_PREFIX = re.compile(
    r"^(.*\.)?(?=(ctx|proj\.|prompts_text\.|prompts_vis\.|compound_prompt_projections\.))"
)


def import_official(
    backbone: Path,
    auxiliary: Path,
    main: Path,
    out: Path,
    *,
    architecture: str = "ViT-B-32-quickgelu",
    trained_on: str | None = None,
    round: int | None = None,
) -> CheckpointConfig:
    """Writes the checkpoint ``out`` from published weights; it holds its backbone, in 32 bit.

    ``trained_on`` and ``round`` (0 to 9) say which of the published splits they were trained on, so
    that it is drawn again to measure them. Without, mos are on the scale of AGIQA-3K.

    Raises:
        CheckpointError: a file that can't be read, or a tensor that is missing, unknown or
            misshapen; a set or a round that the published code does not have.
    """
    provenance = _provenance(trained_on, round)
    source = BackboneConfig(source="file", name=architecture, path=str(backbone.resolve()))
    clip = load_backbone(source)
    # The published code loads CLIP as OpenAI ships it: matrices in fp16, computed in float32.
    # OpenAI's own files are fp16 already; others must be rounded the same way to give the published
    # network's scores.
    _to_half(clip)
    clip.float()
    tensors = convert(learner_weights(auxiliary), learner_weights(main))
    network = ClipAgiqa(clip, options_of(tensors))
    stored = network.stored()
    # What the published network does not have stays as it starts.
    ours = {k: v for k, v in stored.items() if k.startswith(("consistency.", "global_logit"))}
    load_strictly(stored, tensors | ours)
    published = CropPolicy.official(network.input_size)
    config = CheckpointConfig(
        name=out.name,
        revision=sha256_of(main)[:12],
        method="clip-agiqa",
        backbone=BackboneConfig(source="checkpoint", name=architecture),
        options=network.options.model_dump(),
        crop_policy=serving_policy(published),
        measured_policy=published,
        score_range=_TRAINED_ON[trained_on or "AGIQA-3K"],
        provenance=provenance,
    )
    save_checkpoint(
        out, config, network, card=_card(config), metrics={}, backbone=clip, dtype=torch.float32
    )
    return config


def _provenance(trained_on: str | None, round: int | None) -> Provenance:
    """With the published split of the round, as training writes the splits that it draws."""
    command = "agiqa import-official"
    if trained_on is None and round is None:
        return Provenance(command=command)
    if trained_on not in _TRAINED_ON or round is None or not 0 <= round < _ROUNDS:
        raise CheckpointError(
            f"say both what the weights were trained on ({' or '.join(_TRAINED_ON)}) and in which "
            f"of the published rounds (0 to {_ROUNDS - 1}), or neither"
        )
    split = {"by": "prompt", "kind": "paper", "round": round, "inner": 0.0, "protocol": "paper"}
    split["shares"] = {"train": 0.8, "test": 0.2}
    command = f"{command} --trained-on {trained_on} --round {round}"
    return Provenance(trained_on=(trained_on,), split=split, command=command)


def _to_half(clip: nn.Module) -> None:
    """Rounds the weights that OpenAI's loader rounds."""
    from open_clip.model import convert_weights_to_lp  # seconds, so only here

    convert_weights_to_lp(clip, torch.float16)


def learner_weights(path: Path) -> dict[str, Tensor]:
    """One task's published tensors, under their bare names."""
    tensors = {_PREFIX.sub("", name): value for name, value in read_weights(path).items()}
    return {name: value for name, value in tensors.items() if not _IGNORED.search(name)}


def convert(auxiliary: Mapping[str, Tensor], main: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames published tensors to ours.

    Raises:
        CheckpointError: a file without the tensors that it must hold, or with others.
    """
    rest = dict(main)
    converted: dict[str, Tensor] = {}
    for task, tensors in (("alignment", dict(auxiliary)), ("quality", rest)):
        converted[f"{task}.context"] = _take(tensors, "ctx", task)
        for ours, theirs in (("text", "prompts_text"), ("visual", "prompts_vis")):
            converted[f"{task}.{ours}"] = _stack(
                _take_list(tensors, theirs, task), f"{task}: {theirs}"
            )
        if task == "alignment":
            _refuse_left_over(tensors, task)
    for part in ("weight", "bias"):
        converted[f"condition.0.{part}"] = _take(rest, f"proj.{part}", "quality")
        layers = _take_list(rest, "compound_prompt_projections", "quality", f".{part}")
        converted |= {f"condition.{i}.{part}": tensor for i, tensor in enumerate(layers, start=1)}
    _refuse_left_over(rest, "quality")
    return converted


def options_of(tensors: Mapping[str, Tensor]) -> ClipAgiqaOptions:
    """Prompt lengths as the tensors have them."""
    return ClipAgiqaOptions(
        context_length=len(tensors["quality.context"]),
        visual_length=tensors["quality.visual"].shape[1],
    )


def _take(tensors: dict[str, Tensor], name: str, task: str) -> Tensor:
    if name not in tensors:
        raise CheckpointError(
            f"the {task} weights lack the tensor {name}: are the two files swapped?"
        )
    return tensors.pop(name)


def _take_list(tensors: dict[str, Tensor], name: str, task: str, suffix: str = "") -> list[Tensor]:
    """Takes name.0suffix, name.1suffix ... up to the highest number that is there."""
    pattern = re.compile(rf"{re.escape(name)}\.(\d+){re.escape(suffix)}")
    numbers = [int(match[1]) for key in tensors if (match := pattern.fullmatch(key))]
    count = max(numbers, default=0) + 1
    return [_take(tensors, f"{name}.{i}{suffix}", task) for i in range(count)]


def _stack(layers: list[Tensor], what: str) -> Tensor:
    for i, layer in enumerate(layers):
        if layer.shape != layers[0].shape:
            shapes = f"{list(layer.shape)}, {what}.0 is {list(layers[0].shape)}"
            raise CheckpointError(f"{what}.{i} is {shapes}")
    return torch.stack(layers)


def _refuse_left_over(tensors: Mapping[str, Tensor], task: str) -> None:
    for name in tensors:
        raise CheckpointError(
            f"the {task} weights hold an unknown tensor {name}: are the two files swapped?"
        )


def _card(config: CheckpointConfig) -> str:
    return f"""# {config.name}

CLIP-AGIQA weights in the published layout, converted by `agiqa import-official`. Nothing was
measured here.

{_measuring(config)}

Quality and alignment are those of the published network. Consistency with the user's prompt was not
trained: it is a CLIPScore through the alignment prompts, squashed around a typical cosine.

It serves a grid of at most {config.crop_policy.max_windows} windows, whatever an image's size; the
published protocol, every window at stride 64, is `--crop-policy official`.
"""


def _measuring(config: CheckpointConfig) -> str:
    measure = f"agiqa evaluate --checkpoint {config.name} --data"
    if not config.provenance.trained_on:
        return f"""It is not known what they were trained on, so they have no test part here.
`{measure} DIR --part all` measures them on images that they have not seen;
`agiqa import-official --trained-on SET --round N` states a published split."""
    (data_set,), number = config.provenance.trained_on, config.provenance.split["round"]
    return f"""Whoever imported them states: they were trained in
round {number} of the published splits of {data_set}. `{measure} {data_set}` measures
them on the prompts that this round tests; the published code chose the epoch on those."""
