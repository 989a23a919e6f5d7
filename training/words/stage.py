"""The words stage: trains the text tower on WordNet, resumable at the end of every epoch."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from training.data.wordnet import WordNet
from training.engine.schedule import Schedule
from training.engine.state import load_state, save_atomically
from training.errors import TrainingError
from training.words.batches import WordsBatch, WordsBatches
from training.words.lsa import start_from_lsa
from training.words.recipe import WordsRecipe
from training.words.task import Words
from training.words.texts import Lexicon

STATE = "words.state.pt"


def learn_words(
    clip: nn.Module,
    wordnet: WordNet,
    recipe: WordsRecipe,
    work_folder: Path,
    seed: int,
    fingerprint: str,
    report: Callable[[str], None] = print,
) -> Tensor:
    """Trains the text tower in place, on the CPU, from the last finished epoch on.

    Returns:
        Vectors [1000, embed_dim] of ImageNet's classes, normalised, on the CPU.

    Raises:
        DataError: ImageNet's classes are not listed anywhere.
        TrainingError: a state that belongs to another run, or a loss that is no number.
    """
    length = min(recipe.context, int(getattr(clip, "context_length", recipe.context))) - 2
    lexicon = Lexicon(wordnet, length, recipe.held_out, seed)
    state = load_state(work_folder / STATE, fingerprint)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        words = Words(clip, lexicon, recipe)
    if state is None and recipe.lsa:
        start_from_lsa(words.text.text.token_embedding.weight, lexicon.documents(), seed)
    training = _Training(words, recipe, seed, state)
    while training.epochs < recipe.epochs:
        figures = training.epoch()
        state = {"fingerprint": fingerprint, **training.state()}
        save_atomically(work_folder / STATE, state)
        line = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
        report(f"words {training.epochs}/{recipe.epochs}: {line}")
    return F.normalize(words.vectors.detach().float(), dim=-1)


class _Training:
    """The optimiser and how far it is."""

    def __init__(
        self, words: Words, recipe: WordsRecipe, seed: int, state: Mapping[str, Any] | None
    ) -> None:
        self.words = words
        self.recipe = recipe
        self.batches = WordsBatches(words.lexicon, recipe, seed)
        warmup = recipe.warmup * recipe.epochs
        self.schedule = Schedule(epochs=recipe.epochs, lr=recipe.lr, warmup_epochs=warmup)
        self.parameters = words.trained()
        self.optimiser = torch.optim.AdamW(self._groups(), lr=recipe.lr, betas=(0.9, 0.98))
        self.epochs = 0
        if state is not None:
            self.epochs = state["epochs"]
            self.optimiser.load_state_dict(state["optimiser"])
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(state["weights"][name])

    def _groups(self) -> list[dict[str, Any]]:
        """Only the layers' matrices decay: in the tables, rows of rare tokens would vanish."""
        matrices = {id(p) for p in self.words.text.hidden_maps()}
        decaying = [p for p in self.parameters.values() if id(p) in matrices]
        others = [p for p in self.parameters.values() if id(p) not in matrices]
        return [
            {"params": decaying, "weight_decay": self.recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]

    def epoch(self) -> dict[str, float]:
        """Trains one; its mean losses and its figures."""
        self.words.train()
        sums: dict[str, float] = defaultdict(float)
        batches = list(self.batches.epoch(self.epochs))
        bar = tqdm(batches, desc=f"words {self.epochs + 1}/{self.recipe.epochs}", unit="batch")
        for number, batch in enumerate(bar):
            rate = self.schedule.rate(self.epochs * len(batches) + number, len(batches))
            for name, value in self._step(batch, rate).items():
                sums[name] += value / len(batches)
        self.epochs += 1
        return {**sums, **self.words.figures()}

    def _step(self, batch: WordsBatch, rate: float) -> dict[str, float]:
        """One step at that learning rate."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        losses = self.words.loss(batch)
        total = torch.stack(list(losses.values())).sum()
        if not total.isfinite():
            raise TrainingError("the words stage's loss is no number: set words.lr lower")
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimiser.step()
        return {name: float(value.detach()) for name, value in losses.items()}

    def state(self) -> dict[str, Any]:
        """What resuming needs."""
        weights = {name: p.detach().clone() for name, p in self.parameters.items()}
        return {
            "epochs": self.epochs,
            "weights": weights,
            "optimiser": self.optimiser.state_dict(),
        }
