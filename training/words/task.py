"""What is learned from a batch of words: the terms of the loss, and the figures of an epoch."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.clip.prompts import encode_with_context
from model.clip.tokenizer import Tokenizer
from model.clip.towers import TextTower
from training.methods.losses import contrastive
from training.words.batches import Bags, Classes, Concepts, WordsBatch
from training.words.recipe import WordsRecipe
from training.words.texts import Ids, Lexicon

# Texts that run together, of like length, so that padding is small.
_CHUNK = 128


class Words(nn.Module):
    """The text tower and a vector for each class of ImageNet, in place of the images.

    ``vectors``: [classes, d], a row of a classifier serves as an image's feature.
    """

    def __init__(self, clip: nn.Module, lexicon: Lexicon, recipe: WordsRecipe) -> None:
        super().__init__()
        self.clip = clip
        self.text = TextTower(clip)
        self.lexicon = lexicon
        self.recipe = recipe
        self.tokenizer = Tokenizer()
        width = self.encode([[]]).shape[1]
        self.vectors = nn.Parameter(F.normalize(torch.randn(len(lexicon.classes), width), dim=-1))

    def trained(self) -> dict[str, nn.Parameter]:
        """By name: all of the CLIP but its image tower and its temperature, and the vectors."""
        own = {
            name: p
            for name, p in self.clip.named_parameters()
            if not name.startswith("visual.") and name != "logit_scale"
        }
        return own | {"vectors": self.vectors}

    def encode(self, texts: Sequence[Ids]) -> Tensor:
        """Normalised features [n, d]."""
        none = torch.empty(0, self.text.width)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        features = [
            encode_with_context(self.text, [texts[i] for i in chunk], none, self.tokenizer)
            for chunk in (order[i : i + _CHUNK] for i in range(0, len(order), _CHUNK))
        ]
        return F.normalize(torch.cat(features)[torch.tensor(order).argsort()], dim=-1)

    def loss(self, batch: WordsBatch) -> dict[str, Tensor]:
        """The weighted terms."""
        w = self.recipe.weights
        gloss, hypernym = self._of_concepts(batch.concepts)
        return {
            "gloss": w.gloss * gloss,
            "hypernym": w.hypernym * hypernym,
            "classes": w.classes * self._of_classes(batch.classes),
            "bag": w.bag * self._of_bags(batch.bags),
        }

    def _of_concepts(self, batch: Concepts) -> tuple[Tensor, Tensor]:
        """A lemma against its gloss; the mean of both against the name of a hypernym."""
        names, glosses = self.encode([*batch.lemmas, *batch.hypernyms]), self.encode(batch.glosses)
        lemmas, higher = names.split([len(batch.lemmas), len(batch.hypernyms)])
        positions, ancestors = batch.positions, self.lexicon.ancestors[batch.positions.long()]
        # A gloss of another sense of the lemma, of its hypernym or hyponym is no wrong answer.
        parents = _holds(ancestors, positions)
        alike = _holds(batch.senses, positions) | parents | parents.T
        gloss = masked_contrastive(lemmas, glosses, alike, self.recipe.temperature)
        if not len(batch.above):
            return gloss, gloss * 0
        concepts = F.normalize(lemmas + glosses, dim=-1)[batch.above]
        above = _holds(ancestors[batch.above], batch.hypernym_positions)
        return gloss, masked_contrastive(concepts, higher, above, self.recipe.temperature)

    def _of_classes(self, batch: Classes) -> Tensor:
        """Name, gloss and ancestors' names against the vectors of the classes that they fit."""
        vectors = F.normalize(self.vectors, dim=-1)
        scale = torch.tensor(1 / self.recipe.temperature)
        return contrastive(self.encode(batch.texts), vectors, batch.matches, scale)

    def _of_bags(self, batch: Bags) -> Tensor:
        """Distance (1 - cosine) of a sentence from the mean of its words."""
        with torch.no_grad():
            parts = F.normalize(batch.members @ self.encode(batch.words), dim=-1)
        return (1 - (self.encode(batch.texts) * parts).sum(1)).mean()

    @torch.no_grad()
    def figures(self) -> dict[str, float]:
        """``recall_at_1``: held-out concepts whose own gloss is the nearest to their first lemma;
        ``own_class``: share of pairs where a class's own name is nearer to its vector than another
        class's name.
        """
        concepts = self.lexicon.wordnet.concepts
        held_out = self.lexicon.held_out
        figures: dict[str, float] = {}
        if held_out:
            lemmas = self.encode([self.lexicon.lemma(concepts[p].lemmas[0]) for p in held_out])
            glosses = self.encode([self.lexicon.glosses[p] for p in held_out])
            own = torch.arange(len(held_out))
            found = (lemmas @ glosses.T).argmax(1) == own
            figures["recall_at_1"] = float(found.float().mean())
        names = self.encode([self.lexicon.lemma(c.lemmas[0]) for c in self.lexicon.classes])
        near = names @ F.normalize(self.vectors, dim=-1).T  # [names, vectors]
        others = ~torch.eye(len(near), dtype=torch.bool)
        figures["own_class"] = float((near.diag() > near)[others].float().mean())
        return figures


def masked_contrastive(one: Tensor, other: Tensor, alike: Tensor, temperature: float) -> Tensor:
    """CLIP's symmetric loss for pairs of normalised [n, d]; pairs of different rows that ``alike``
    [n, n] marks are no negatives.
    """
    ignored = alike & ~torch.eye(len(one), dtype=torch.bool)
    logits = (one @ other.T / temperature).masked_fill(ignored, float("-inf"))
    own = torch.arange(len(one))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def _holds(rows: Tensor, positions: Tensor) -> Tensor:
    """[n, m]: whether row i of [n, k] has position j of [m]."""
    return (rows[:, None] == positions[None, :, None]).any(-1)
