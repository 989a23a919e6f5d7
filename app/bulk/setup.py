"""A model on this machine, described so that a process elsewhere can load it too."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.bulk.errors import CannotScore
from app.bulk.rows import ModelFacts, Scoring
from app.device.launch import VARIABLES
from model.config import Head

if TYPE_CHECKING:
    from model.scorer import Scorer

DEFAULT_MODEL = "tiny-clip-agiqa"


@dataclass(frozen=True, slots=True)
class LocalSetup:
    """What ``LocalScoring`` is made of.

    Args:
        checkpoint: bundled name, folder or ``hf://owner/name``; None: the default.
        device: auto, cpu, cuda ...
        dtype: auto, float32, bfloat16.
        crop_policy: None: the checkpoint's own.
        decode_workers: processes that decode; None: by the cores; 0: threads, without limits.
        heads: None: all that apply to an image.
    """

    checkpoint: str | None = None
    device: str | None = None
    dtype: str | None = None
    crop_policy: str | None = None
    decode_workers: int | None = None
    heads: tuple[Head, ...] | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether the device is named as a GPU."""
        return (self.device or "").startswith("cuda")

    def for_each_device(self) -> list["LocalSetup"]:
        """One set-up for each of ``cuda:0,cuda:1``; of ``auto``, for each GPU that is there."""
        from model.scorer import every_device

        return [replace(self, device=name) for name in every_device(self.device or "auto")]

    def facts(self) -> ModelFacts:
        """What rows say of the model, without loading its weights.

        Raises:
            CannotScore: there is no such model.
        """
        from model.errors import ModelError
        from model.methods.policy import choose_policy
        from model.store.checkpoint import find, read_config

        try:
            config = read_config(find(self.checkpoint or DEFAULT_MODEL))
            return _facts(config, choose_policy(config, self.crop_policy), {})
        except (ModelError, ValueError) as error:
            raise CannotScore(str(error)) from error

    def connect(self) -> Scoring:
        """Loads the model.

        Raises:
            CannotScore: it can't be loaded, or has no such heads.
        """
        # Before torch is loaded, which reads them: decoding takes cores that its threads wait on.
        os.environ.update({**VARIABLES, **os.environ})
        from app.bulk.local import LocalScoring
        from model.decoding.decoder import DecodeLimits
        from model.pipeline import Pipeline
        from model.scorer import limit_threads

        limit_threads()
        scorer, facts = self._load()
        try:
            scorer.planner.heads(self.heads, prompted=True)
        except ValueError as error:
            raise CannotScore(str(error)) from error
        limits = DecodeLimits() if self.decode_workers != 0 else None
        pipeline = Pipeline(scorer, threads=self.decode_workers, limits=limits)
        return LocalScoring(pipeline, facts, self.heads)

    def _load(self) -> tuple["Scorer", ModelFacts]:
        """The scorer, and what is known of it: with its ``metrics.json`` as far as it has any."""
        import model
        from model.errors import ModelError
        from model.store.checkpoint import find

        try:
            folder = find(self.checkpoint or DEFAULT_MODEL)
            device, dtype = self.device or "auto", self.dtype or "auto"
            scorer = model.load(str(folder), device, dtype, self.crop_policy)
        except (ModelError, ValueError, RuntimeError) as error:  # torch's are RuntimeErrors
            raise CannotScore(str(error)) from error
        return scorer, _facts(scorer.config, scorer.planner.policy, _measured(folder))


def _measured(folder: Path) -> Mapping[str, Any]:
    try:
        measured = json.loads((folder / "metrics.json").read_text())
    except (OSError, ValueError):
        return {}
    return measured if isinstance(measured, dict) else {}


def _facts(config: Any, policy: Any, measured: Mapping[str, Any]) -> ModelFacts:
    from app.catalogue import describe

    return ModelFacts.of(describe(config, policy, []), measured)
