"""The two CLIP towers, run with learnable prompts among their tokens.

The weights stay in open_clip's modules, or in our own under open_clip's names; only the forward
pass is ours, since prompts enter between layers. Any open_clip ViT with a class token and a causal
text tower works; the towers refuse the others by name. No width or depth is written here: all are
read off the modules.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.clip import one_pass
from model.clip.efficientnet import EfficientNetStem
from model.clip.own_clip import Block, ImageTransformer
from model.errors import BackboneError

_OPEN_CLIPS_BLOCK = "transformer.ResidualAttentionBlock"

PromptPosition = Literal["pre_ln", "post_ln"]

_recomputing: ContextVar[bool] = ContextVar("recomputing", default=False)


@contextmanager
def recomputed_layers(recompute: bool = True) -> Iterator[None]:
    """Transformer layers that run within keep only their input for the backward pass, which
    computes each of them once more.
    """
    before = _recomputing.set(recompute)
    try:
        yield
    finally:
        _recomputing.reset(before)


def is_open_clips(module: object, name: str, *, exactly: bool = False) -> bool:
    """Whether an object is of open_clip's class ``name``, as "transformer.VisionTransformer", or,
    unless ``exactly``, of one that inherits from it.

    By name, since nothing can be one of them before the package is imported: asking need not.
    """
    classes = type(module).__mro__[:1] if exactly else type(module).__mro__
    return any(f"{c.__module__}.{c.__qualname__}" == f"open_clip.{name}" for c in classes)


def check_vision(visual: Any) -> None:
    """Refuses an image tower that is no ViT with class-token pooling.

    Raises:
        BackboneError: names what was found and what was wanted.
    """
    open_clips = is_open_clips(visual, "transformer.VisionTransformer")
    is_vit = isinstance(visual, ImageTransformer) or open_clips
    _demand(is_vit, f"a ViT image tower (found {type(visual).__name__})")
    attentional = getattr(visual, "attn_pool", None) is not None
    _demand(not attentional, "class-token pooling (found attentional pooling)")
    pooling = getattr(visual, "pool_type", "none")
    _demand(pooling == "tok", f"class-token pooling (found {pooling!r})")
    _check_blocks(visual.transformer.resblocks)


def check_text(clip: nn.Module) -> None:
    """Refuses a text tower that is not causal with pooling at the end-of-text token.

    Raises:
        BackboneError: names what was found and what was wanted.
    """
    text = text_part(clip)
    causal = getattr(text, "attn_mask", None) is not None
    _demand(causal, "a causal text tower (found none)")
    at_end = "pooling at the end-of-text token"
    _demand(getattr(text, "cls_emb", None) is None, f"{at_end} (found an added class token)")
    pooling = getattr(clip, "text_pool_type", None) or getattr(text, "pool_type", "argmax")
    _demand(pooling == "argmax", f"{at_end} (found {pooling!r})")
    _check_blocks(text.transformer.resblocks)


def _demand(holds: bool, wanted: str) -> None:
    if not holds:
        raise BackboneError(f"this backbone can't be prompted: it needs {wanted}")


def _check_blocks(blocks: Iterable[Any]) -> None:
    for block in blocks:
        plain = type(block) is Block or is_open_clips(block, _OPEN_CLIPS_BLOCK, exactly=True)
        if not plain or not isinstance(block.attn, nn.MultiheadAttention):
            found = type(block).__name__
            raise BackboneError(f"this backbone can't be prompted: it has {found} layers")


def text_part(clip: nn.Module) -> Any:
    """The module that holds the text tower: ``clip.text`` where there is one, else the flat
    ``CLIP`` itself.
    """
    return getattr(clip, "text", clip)


def place(tower: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Puts a tower on the device in ``dtype``, but a pretrained stem in float32: what its
    first convolutions round in bfloat16, at half of a view's size, moves scores by up to .07.
    """
    tower.to(device)
    stems = [module for module in tower.modules() if isinstance(module, EfficientNetStem)]
    exact = {id(t) for stem in stems for t in (*stem.parameters(), *stem.buffers())}
    for tensor in (*tower.parameters(), *tower.buffers()):
        if tensor.is_floating_point() and id(tensor) not in exact:
            tensor.data = tensor.data.to(dtype)


class VisionTower(nn.Module):
    """A ViT with prompts after its class token and patches.

    The prompts of the first prompted layer are appended, before ``ln_pre`` ("pre_ln", CLIP-AGIQA)
    or after it ("post_ln", MP-IQE); those of each later prompted layer replace the last P tokens.
    With fewer prompted layers than layers, the last prompts are simply carried on (shallow
    prompting).
    """

    def __init__(self, visual: Any, position: PromptPosition = "pre_ln") -> None:
        super().__init__()
        check_vision(visual)
        self.visual = visual
        self.position = position

    @property
    def width(self) -> int:
        """Width w of the tokens."""
        return int(self.visual.class_embedding.shape[0])

    @property
    def depth(self) -> int:
        return len(self.visual.transformer.resblocks)

    @property
    def embed_dim(self) -> int:
        """Width d of the features that both towers share."""
        return int(self.visual.proj.shape[1])

    def hidden_maps(self) -> list[Tensor]:
        """Weights that map hidden features to hidden features: the layers' matrices, and the
        convolutions of a stem that is new, but the one that sees colours.
        """
        layers, stem = _matrices(self.visual.transformer.resblocks), self.visual.conv1
        if isinstance(stem, EfficientNetStem):  # whose convolutions know what they do
            return layers
        convolutions = [m for m in stem.modules() if isinstance(m, nn.Conv2d)]
        return layers + [m.weight for m in convolutions[1:]]

    def patchify(self, pixels: Tensor, positions: Tensor | None = None) -> Tensor:
        """[B, 3, h, w] normalised pixels -> [B, 1 + patches, w] tokens with positions, before
        ``ln_pre``. ``positions`` [1 + patches, w]: others than the tower's own.
        """
        stem = self.visual.conv1
        seen = stem(pixels.to(next(stem.parameters()).dtype))
        if not isinstance(stem, EfficientNetStem):  # a map, and no class token yet
            seen = F.pad(seen.flatten(2).transpose(1, 2), (0, 0, 1, 0))
        return self.placed(seen, positions)

    def placed(self, tokens: Tensor, positions: Tensor | None = None) -> Tensor:
        """A stem's tokens [B, 1 + patches, w] with class embedding and positions."""
        visual = self.visual
        own = visual.positional_embedding if positions is None else positions
        added = torch.cat([own[:1] + visual.class_embedding, own[1:]])
        return tokens.to(added.dtype) + added

    def encode(self, tokens: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Class features [B, d], not normalised, of ``patchify``'s tokens under prompts [B or 1,
        layers, P, w].

        Only the class token is read, so the last layer computes nothing else; that is exact.
        """
        return self._encode(tokens, prompts, 1)[:, 0] @ self.visual.proj

    def encode_tokens(self, tokens: Tensor, prompts: Tensor | None = None) -> Tensor:
        """[CLS, patches] [B, 1 + patches, w] after ``ln_post``, not projected; prompts left out."""
        return self._encode(tokens, prompts, tokens.shape[1])

    def _encode(self, tokens: Tensor, prompts: Tensor | None, wanted: int) -> Tensor:
        """The first ``wanted`` tokens after all layers and ``ln_post``."""
        x = self._enter(tokens, prompts)
        blocks = self.visual.transformer.resblocks
        for layer, block in enumerate(blocks):
            if layer and prompts is not None and layer < prompts.shape[1]:
                x = torch.cat([x[:, : -prompts.shape[2]], _of_layer(prompts, layer, x)], dim=1)
            x = run_block(block, x, queries=wanted if layer == len(blocks) - 1 else None)
        return self.visual.ln_post(x)

    def _enter(self, tokens: Tensor, prompts: Tensor | None) -> Tensor:
        if prompts is None or not prompts.shape[1]:
            return self.visual.ln_pre(tokens)
        first = _of_layer(prompts, 0, tokens)
        if self.position == "pre_ln":
            return self.visual.ln_pre(torch.cat([tokens, first], dim=1))
        return torch.cat([self.visual.ln_pre(tokens), first], dim=1)


class TextTower(nn.Module):
    """CLIP's causal text tower, run only as long as the longest prompt needs (exact: no token sees
    a later one).
    """

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        check_text(clip)
        self.text = text_part(clip)

    @property
    def width(self) -> int:
        """Width of the token embeddings."""
        return int(self.text.positional_embedding.shape[1])

    @property
    def depth(self) -> int:
        return len(self.text.transformer.resblocks)

    @property
    def context_length(self) -> int:
        """Most tokens that a text may have, start and end included."""
        return int(self.text.positional_embedding.shape[0])

    def hidden_maps(self) -> list[Tensor]:
        """Weights that map hidden features to hidden features: the layers' matrices."""
        return _matrices(self.text.transformer.resblocks)

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids [n, L] -> embeddings [n, L, w] without positions."""
        return self.text.token_embedding(ids)

    def encode(self, embeddings: Tensor, ends: Tensor, deep: Tensor | None = None) -> Tensor:
        """Text features [n, d], not normalised.

        Args:
            embeddings: [n, L, w] token embeddings, contexts already in place.
            ends: [n] position of each end-of-text token.
            deep: [layers - 1, P, w] prompts that replace positions 1..P before layers 2, 3, ...
        """
        text = self.text
        x = embeddings + text.positional_embedding[: embeddings.shape[1]]
        for layer, block in enumerate(text.transformer.resblocks):
            if layer and deep is not None and layer <= len(deep):
                prompts = deep[layer - 1].to(x.dtype).expand(len(x), -1, -1)
                x = torch.cat([x[:, :1], prompts, x[:, 1 + prompts.shape[1] :]], dim=1)
            x = run_block(block, x, causal=True)
        pooled = text.ln_final(x[torch.arange(len(x), device=x.device), ends])
        projection = text.text_projection
        if projection is None:
            return pooled
        return projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, n, w] -> [B, heads, n, w / heads]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """[B, heads, n, w / heads] -> [B, n, w]."""
    return x.transpose(1, 2).flatten(2)


def run_block(block: Any, x: Tensor, *, queries: int | None = None, causal: bool = False) -> Tensor:
    """One pre-norm transformer layer on [B, n, w]; with ``queries``, only the first so many tokens
    come out.
    """
    if _recomputing.get():
        from torch.utils.checkpoint import checkpoint  # scoring needs none of it

        kept: Tensor = checkpoint(_layer, block, x, queries, causal, use_reentrant=False)
        return kept
    return _layer(block, x, queries, causal)


def _layer(block: Any, x: Tensor, queries: int | None, causal: bool) -> Tensor:
    attn, normed = block.attn, block.ln_1(x)
    if not one_pass.fuses_layer(block, x):
        attended = attn.out_proj(_attention(attn, normed, queries, causal))
        x = x[:, :queries] + block.ls_1(attended)
        return x + block.ls_2(block.mlp(block.ln_2(x)))
    attended = _attention(attn, normed, queries, causal, one_pass.linear)
    x = one_pass.added(x[:, :queries], attended, attn.out_proj.weight, attn.out_proj.bias)
    return one_pass.mlp_added(block, x)


def _attention(
    attn: nn.MultiheadAttention,
    x: Tensor,
    queries: int | None,
    causal: bool,
    linear: Callable[[Tensor, Tensor, Tensor], Tensor] = F.linear,
) -> Tensor:
    """Multi-head self-attention with the weights of ``attn``, up to its ``out_proj``; keys and
    values of all tokens, queries of the first.
    """
    width, heads = attn.embed_dim, attn.num_heads
    weight, bias = attn.in_proj_weight, attn.in_proj_bias
    if queries is None:
        q, k, v = linear(x, weight, bias).chunk(3, dim=-1)
    else:
        q = linear(x[:, :queries], weight[:width], bias[:width])
        k, v = linear(x, weight[width:], bias[width:]).chunk(2, dim=-1)
    q, k, v = (split_heads(t, heads) for t in (q, k, v))  # [B, heads, n, w / heads]
    return join_heads(F.scaled_dot_product_attention(q, k, v, is_causal=causal))


def attention_weights(block: Any, x: Tensor) -> Tensor:
    """What each token entering a layer [B, n, w] reads from each: softmax(q k^T / sqrt(w / heads)),
    the mean over heads [B, n, n]; rows are queries and sum to one.

    For explanations: scoring never holds these weights.
    """
    attn = block.attn
    qk = slice(0, 2 * attn.embed_dim)
    both = F.linear(block.ln_1(x), attn.in_proj_weight[qk], attn.in_proj_bias[qk])
    q, k = (split_heads(t, attn.num_heads) for t in both.chunk(2, dim=-1))
    return (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1).mean(1)


def _matrices(blocks: nn.Module) -> list[Tensor]:
    return [p for p in blocks.parameters() if p.ndim == 2]


def _of_layer(prompts: Tensor, layer: int, x: Tensor) -> Tensor:
    return prompts[:, layer].to(x.dtype).expand(len(x), -1, -1)
