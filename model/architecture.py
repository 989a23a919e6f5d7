"""The settings of a CLIP that a checkpoint brings: what they may ask for, and how large. Needs no
torch.

Checkpoints come from strangers, and open_clip does whatever its settings say: it would download
the networks that they name, and allocate the sizes that they claim.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

# The largest that open_clip knows has 2.5 billion numbers: 64 layers of width 1792 ... 5120.
_MOST: Mapping[str, int] = {
    "layers": 64,
    "width": 8192,
    "head_width": 8192,
    "heads": 128,
    "mlp_ratio": 16,
    "patch_size": 256,
    "image_size": 1024,
    "context_length": 1024,
    "vocab_size": 1_000_000,
    "attn_pooler_queries": 1024,
    "attn_pooler_heads": 128,
}
# Of open_clip's settings, those that build what it has itself.
_BOTH = {"layers", "width", "mlp_ratio", "ls_init_value", "final_ln_after_pool", "pool_type"}
_BOTH |= {"output_tokens", "act_kwargs", "norm_kwargs", "block_type", "qk_norm", "scale_heads"}
_BOTH |= {"scaled_cosine_attn", "scale_attn_inner", "scale_attn", "scale_fc"}
_VISION = _BOTH | {"head_width", "patch_size", "image_size", "patch_dropout", "no_ln_pre"}
_VISION |= {"attentional_pool", "attn_pooler_queries", "attn_pooler_heads", "pos_embed_type"}
_TEXT = _BOTH | {"heads", "context_length", "vocab_size", "embed_cls", "pad_id", "eos_id"}
_TEXT |= {"no_causal_mask", "proj_bias", "proj_type"}

Size = Annotated[int, Field(ge=1, le=8192)]


class Architecture(BaseModel):
    """A CLIP of our own, in open_clip's terms: the arguments of ``open_clip.CLIP`` and a
    convolutional stem.

    ``stem`` holds the output channels of the convolutional stem that replaces the single patch
    projection (see ``model.clip.backbone.ConvStem``), or names a network's convolutions
    (``model.clip.efficientnet``). Empty: open_clip's own patch projection.
    ``known_words``: how many words it lists as known (see ``model.clip.known_words``); 0: it lists
    none, and no prompt counts as unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    embed_dim: Size
    vision_cfg: dict[str, Any]
    text_cfg: dict[str, Any]
    quick_gelu: bool = False
    stem: Annotated[tuple[Size, ...], Field(max_length=8)] | Literal["efficientnet-lite0"] = ()
    known_words: Annotated[int, Field(ge=0, le=1_000_000)] = 0

    @model_validator(mode="after")
    def _asks_for_nothing_else(self) -> Self:
        for settings, known in ((self.vision_cfg, _VISION), (self.text_cfg, _TEXT)):
            check_tower(settings)
            if unknown := sorted(settings.keys() - known):
                raise ValueError(f"{unknown[0]!r} is no setting that an own architecture may have")
        return self

    def least_numbers(self) -> int:
        """So many numbers the two towers have at least, by their settings."""
        vision, text = self.vision_cfg, self.text_cfg
        table = text.get("vocab_size", 49408) * text.get("width", 512)
        return int(table + _in_layers(vision, 768) + _in_layers(text, 512))


def check_tower(settings: Mapping[str, Any]) -> None:
    """Refuses settings of one tower that would download another network, or are out of all size.

    Raises:
        ValueError: names the setting.
    """
    timm = str(settings.get("timm_model_name") or "")
    if settings.get("timm_model_pretrained") or ":" in timm or "/" in timm:
        raise ValueError("timm_model_name would have other weights downloaded: leave it out")
    if settings.get("hf_model_name"):
        raise ValueError("hf_model_name would have another network downloaded: leave it out")
    for name, most in _MOST.items():
        value = settings.get(name, 1)
        for number in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(number, int | float) or not 0 < number <= most:
                raise ValueError(f"{name} must be a number from 1 to {most}")


def _in_layers(settings: Mapping[str, Any], usual: int) -> int:
    """Four matrices of width x width in attention, eight in the MLP of the usual ratio."""
    layers, width = settings.get("layers", 12), settings.get("width", usual)
    if not isinstance(layers, int):  # a ResNet's
        return 0
    return math.floor(layers * (4 + 2 * settings.get("mlp_ratio", 4)) * width**2)
