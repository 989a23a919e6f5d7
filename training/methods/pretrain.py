"""Backbone pre-training: a small CLIP from scratch on rated images with prompts.

What CLIP learns from the web is learned here from what data sets say about each image, through one
image tower and one text tower: its quality ("good photo." against "bad photo."), and, where a set
tells it, how well it follows its prompt ("aligned photo." against "misaligned photo."), which
generator made it and in which mode, what scene it shows and what distorts it (as words), and its
prompt (as a caption). What needs no rater is learned too: of two degraded versions of an image the
more degraded one is the worse, and the kind of degradation has a name. What a pretrained stem knows
of ImageNet's classes goes over to the texts that name them. One encoder sees both scales, a window
at native size and the whole image squashed. All parameters train.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from model.clip.efficientnet import EfficientNetStem
from model.clip.prompts import encode_with_context
from model.clip.tokenizer import Tokenizer
from model.clip.towers import TextTower, VisionTower
from model.config import Normalisation
from model.methods.antonyms import positive_probability
from model.methods.clip_agiqa import ALIGNMENT_WORDS, QUALITY_WORDS
from model.methods.precision import without_autocast
from model.methods.vocabulary import DISTORTIONS, SCENES
from training.data.samples import Sample
from training.engine.task import Heads, Losses, Outputs, Task
from training.methods.losses import captioned, degradation, multi_hot, ranking, soft_cross_entropy
from training.sampling.batches import Batch

_MAX_LOGIT_SCALE = 4.6052  # ln 100, as CLIP clips it
# Batches that a stem's features are standardised on.
_FIRST = 12
# Of an image, the likeliest classes that a step compares; beside them others, at random.
_LIKELY, _OTHERS = 4, 64
# Words that a step looks at, and that are encoded together.
_KEPT, _CHUNK = 128, 512
# Beside a batch's own prompts, so many of others.
_OTHER_PROMPTS = 64


class PretrainWeights(BaseModel):
    """Weights of the terms of the loss."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quality: float = 10.0
    quality_ranking: float = 1.0
    alignment: float = 5.0
    alignment_ranking: float = 0.5
    generator: float = 0.5
    scene: float = 0.5
    distortion: float = 0.5
    caption: float = 0.2
    classes: float = 0.0
    words: float = 0.0
    degradation: float = 1.0
    degradation_kind: float = 0.5


class Pretraining(Task):
    """The task that ``training.engine`` runs: the whole CLIP learns. ``part``: of every view only a
    square of so many patches a side is looked at, at random (None: all of it); the stem computes no
    others, so that steps are cheaper.
    """

    def __init__(
        self,
        clip: nn.Module,
        sources: Sequence[str],
        weights: PretrainWeights,
        patch_dropout: float = 0.0,
        normalisation: Normalisation | None = None,
        part: int | None = None,
        prompts: Sequence[str] = (),
        class_names: Sequence[str] = (),
        words: Sequence[str] = (),
        word_dropout: float = 0.0,
    ) -> None:
        """``sources``: generators; ``prompts``: all of the training part; ``class_names``: of
        ImageNet's classes, where the stem knows them; ``words``: what the text tower knows already,
        and keeps; ``word_dropout``: the share of a caption's words that a step leaves out.
        """
        super().__init__(clip, normalisation)
        self.clip = clip
        self.weights = weights
        self.patch_dropout = patch_dropout
        self.word_dropout = word_dropout
        self.part = part
        self.vision = VisionTower(clip.visual)
        self.text = TextTower(clip)
        self.tokenizer = Tokenizer()
        self.words = list(words)
        self.meanings = self._meanings() if self.words else None
        self.sources = list(sources)
        self.prompts = list(dict.fromkeys(prompts))
        self.class_names = list(class_names)

    def buffers(self) -> Mapping[str, Tensor]:
        """Batch norm's running statistics, and the scales of a pretrained stem's features."""
        return {k: v for k, v in self.clip.named_buffers() if "attn_mask" not in k}

    @property
    def needs_whole_batches(self) -> bool:
        """A pretrained stem's norms are folded; a new one's are not."""
        return any(isinstance(module, nn.BatchNorm2d) for module in self.clip.modules())

    def hidden_maps(self) -> Sequence[Tensor]:
        """Those of both towers."""
        return [*self.vision.hidden_maps(), *self.text.hidden_maps()]

    def freeze_stem(self, stages: int) -> None:
        """So many stages of a pretrained stem learn nothing (8: none of it does)."""
        stem = self.vision.visual.conv1
        if isinstance(stem, EfficientNetStem):
            stem.convolutions.freeze(stages)

    def start(self, first: Iterator[tuple[Outputs, Batch]]) -> None:
        """A pretrained stem's features are standardised by what the first batches show."""
        stem = self.vision.visual.conv1
        if not isinstance(stem, EfficientNetStem) or stem.is_fitted:
            return
        batches = [batch for _, batch in islice(first, _FIRST)]
        views = [v for b in batches for v in (b.windows[:, 0], b.wholes) if v is not None]
        stem.fit([self.normalised(each) for each in views])

    def forward(self, windows: Tensor, wholes: Tensor | None) -> Outputs:
        """``views``: normalised features [n, 2, d] of the first window and the whole image;
        ``classes`` [n, 1000]: ImageNet's, as a pretrained stem sees the latter.
        """
        assert wholes is not None
        self.clip.train()
        views, stem = torch.cat([windows[:, 0], wholes]), self.vision.visual.conv1
        outputs = {}
        if isinstance(stem, EfficientNetStem):
            seen, classes = stem.see(views)
            tokens = self.vision.placed(seen)
            outputs["classes"] = classes[len(windows) :].detach()
        else:
            tokens = self._tokens(views)
        z = F.normalize(
            self.vision.encode(drop_patches(tokens, self.patch_dropout)).float(), dim=-1
        )
        return {"views": z.unflatten(0, (2, -1)).transpose(0, 1), **outputs}

    def _tokens(self, views: Tensor) -> Tensor:
        """Tokens of whole views [B, 3, s, s], or of a random part of them, of whole patches, with
        the positions that they have in the whole.
        """
        if self.part is None:
            return self.vision.patchify(views)
        visual = self.vision.visual
        first, grid = visual.positional_embedding[:1], visual.positional_embedding[1:]
        patches = math.isqrt(len(grid))
        patch = views.shape[-1] // patches
        y, x = torch.randint(patches - self.part + 1, (2,)).tolist()
        rows, columns = slice(y, y + self.part), slice(x, x + self.part)
        seen = views[..., y * patch : rows.stop * patch, x * patch : columns.stop * patch]
        positions = grid.unflatten(0, (patches, patches))[rows, columns].flatten(0, 1)
        return self.vision.patchify(seen, torch.cat([first, positions]))

    def loss(self, outputs: Outputs, batch: Batch) -> Losses:
        """The weighted terms for one batch, each on the images that tell what it needs."""
        views = outputs["views"].transpose(0, 1)
        captions = self._captions(batch.samples)
        texts = self._texts([text for own in captions.values() for text in own])
        t = dict(zip(captions, texts.split([len(c) for c in captions.values()]), strict=True))
        same = batch.same_set
        losses = self._rated("quality", views, t, batch.mos, same)
        aligned = ~batch.mos_align.isnan()
        if aligned.any():
            pairs = same[aligned][:, aligned]
            mos = batch.mos_align[aligned]
            losses |= self._rated("alignment", views[:, aligned], t, mos, pairs)
        if self.class_names and self.weights.classes:
            mean = F.normalize(views.sum(0), dim=-1)
            losses["classes"] = self.weights.classes * self._classes(mean, outputs["classes"])
        if self.meanings is not None and self.weights.words:
            losses["words"] = self.weights.words * self._drift(self.meanings)
        return losses | self._described(views, t, batch)

    def loss_of_degraded(self, outputs: Outputs, worse: Outputs, batch: Batch) -> Losses:
        """Quality falls with the strength of a degradation, in each view and in their mean; its
        kind is told in words.
        """
        degraded = batch.degraded
        assert degraded is not None
        w = self.weights
        scale = self._scale()
        words = [f"a photo with {distortion}" for distortion in DISTORTIONS]
        good, bad, *kinds = self._texts([*QUALITY_WORDS, *words])
        clean = _with_mean(outputs["views"][degraded.bases.to(good.device)])
        pairs = _with_mean(worse["views"])  # [2 d, views + 1, d]
        strengths = degraded.strengths.to(good.device)
        unharmed, weaker, stronger = (
            (scale * z @ (good - bad)).flatten() for z in (clean, pairs[0::2], pairs[1::2])
        )
        of_views = strengths.repeat_interleave(clean.shape[1], dim=0)
        fall = degradation(unharmed, weaker, stronger, of_views)
        hot = multi_hot([(word,) for word in degraded.words], DISTORTIONS).to(good.device)
        named = soft_cross_entropy(scale * pairs[:, -1] @ torch.stack(kinds).T, hot)
        return {
            "degradation": w.degradation * fall,
            "degradation_kind": w.degradation_kind * named,
        }

    def _captions(self, samples: Sequence[Sample]) -> dict[str, list[str]]:
        """The texts that a batch is compared with."""
        return {
            "quality": list(QUALITY_WORDS),
            "alignment": list(ALIGNMENT_WORDS),
            "generator": [f"a picture by {source}" for source in self.sources],
            "scene": [f"a photo of {scene}" for scene in SCENES],
            "distortion": [f"a photo with {distortion}" for distortion in DISTORTIONS],
            "caption": self._prompts([s.prompt for s in samples if s.prompt]),
        }

    def _prompts(self, own: Sequence[str]) -> list[str]:
        """A batch's own prompts, each once, and some that are none of its, without some words: few
        prompts would be learned by heart otherwise.
        """
        own = list(dict.fromkeys(own))
        others = [prompt for prompt in self.prompts if prompt not in set(own)] if own else []
        chosen = torch.randperm(len(others))[:_OTHER_PROMPTS].tolist()
        return [drop_words(p, self.word_dropout) for p in (*own, *(others[i] for i in chosen))]

    @torch.no_grad()
    def _meanings(self) -> Tensor:
        """The features of all words as they are now [n, d]."""
        chunks = range(0, len(self.words), _CHUNK)
        return torch.cat([self._texts(self.words[i : i + _CHUNK]) for i in chunks])

    def _drift(self, meanings: Tensor) -> Tensor:
        """How far some of the words are from where they were: 1 - cosine."""
        chosen = torch.randint(len(self.words), (_KEPT,))
        features = self._texts([self.words[i] for i in chosen.tolist()])
        return (1 - (features * meanings[chosen].to(features.device)).sum(-1)).mean()

    def _classes(self, z: Tensor, probabilities: Tensor) -> Tensor:
        """Cross entropy of [n, d] with the names of classes: those that the images show, and some
        that they don't, as far as the probabilities [n, 1000] lie on these.
        """
        likely = probabilities.topk(_LIKELY).indices.flatten()
        others = torch.randint(probabilities.shape[1], (_OTHERS,), device=likely.device)
        chosen = torch.cat([likely, others]).unique()
        names = self._texts([self.class_names[i] for i in chosen.tolist()])
        targets = probabilities[:, chosen]
        targets = targets / targets.sum(1, keepdim=True)
        return soft_cross_entropy(self._scale() * z @ names.T, targets)

    def _described(self, views: Tensor, texts: Mapping[str, Tensor], batch: Batch) -> Losses:
        """What the names of generator, scene and distortion, and the prompts as captions, teach."""
        w, scale, samples = self.weights, self._scale(), batch.samples
        mean = F.normalize(views.sum(0), dim=-1)
        targets = {
            "generator": multi_hot([(s.source,) for s in samples], self.sources),
            "scene": multi_hot([s.scenes for s in samples], SCENES),
            "distortion": multi_hot([(s.distortion,) for s in samples], DISTORTIONS),
        }
        losses = {
            name: getattr(w, name)
            * soft_cross_entropy(scale * mean @ texts[name].T, target.to(mean.device))
            for name, target in targets.items()
            if target.any()
        }
        if rows := [row for row, s in enumerate(samples) if s.prompt]:
            own = [samples[row].prompt for row in rows]
            captions = texts["caption"]
            prompts = list(dict.fromkeys(own))
            names = torch.tensor([prompts.index(p) for p in own], device=mean.device)
            # What raters found unlike its prompt teaches little of it.
            trust = batch.mos_align[rows].nan_to_num(1.0)
            matched = captioned(mean[rows], captions, names, scale, trust)
            losses["caption"] = w.caption * matched
        return losses

    def values(self, windows: Tensor, wholes: Tensor | None, prompts: Sequence[str]) -> Heads:
        """Quality and alignment, from two views each."""
        del prompts
        assert wholes is not None
        self.clip.eval()
        z = [
            F.normalize(self.vision.encode(self.vision.patchify(views)).float(), dim=-1)
            for views in (windows[:, 0], wholes)
        ]
        with without_autocast(windows):
            texts = self._texts([*QUALITY_WORDS, *ALIGNMENT_WORDS]).split(2)
            return {
                head: torch.stack(
                    [positive_probability(view, classes, self._scale()).double() for view in z]
                ).mean(0)
                for head, classes in zip(("quality", "alignment"), texts, strict=True)
            }

    def _rated(
        self, name: str, views: Tensor, texts: Mapping[str, Tensor], mos: Tensor, same: Tensor
    ) -> Losses:
        """Squared error of both views [2, n, d] and of their mean; ranking within a data set."""
        each = positive_probability(views, texts[name], self._scale())  # [2, n]
        mean = each.mean(0)
        squares = F.mse_loss(mean, mos) + 0.5 * sum(F.mse_loss(e, mos) for e in each)
        ranked = f"{name}_ranking"
        return {
            name: getattr(self.weights, name) * squares,
            ranked: getattr(self.weights, ranked) * ranking(mean, mos, same),
        }

    def _texts(self, texts: Sequence[str]) -> Tensor:
        """Normalised features [n, d] of plain texts."""
        none = torch.empty(0, self.text.width, device=self.clip.logit_scale.device)  # type: ignore[arg-type]
        ids = [self.tokenizer(text)[: self.text.context_length - 2] for text in texts]
        return F.normalize(
            encode_with_context(self.text, ids, none, self.tokenizer, deep=None), dim=-1
        )

    def _scale(self) -> Tensor:
        return self.clip.logit_scale.clamp(max=_MAX_LOGIT_SCALE).exp()  # type: ignore[operator]


def _with_mean(views: Tensor) -> Tensor:
    """[n, views, d] and their normalised mean behind them."""
    return torch.cat([views, F.normalize(views.sum(1, keepdim=True), dim=-1)], dim=1)


def drop_patches(tokens: Tensor, share: float) -> Tensor:
    """[B, 1 + n, w] without a random share of each image's patches; the class token stays."""
    if not share:
        return tokens
    batch, n, width = tokens[:, 1:].shape
    kept = torch.rand(batch, n, device=tokens.device).argsort(1)[
        :, : max(1, round(n * (1 - share)))
    ]
    patches = tokens[:, 1:].gather(1, kept[..., None].expand(-1, -1, width))
    return torch.cat([tokens[:, :1], patches], dim=1)


def drop_words(text: str, share: float) -> str:
    """A text without a random share of its words, but never without all."""
    words = text.split()
    kept = torch.rand(len(words)) >= share
    return " ".join(word for word, stays in zip(words, kept.tolist(), strict=True) if stays) or text
