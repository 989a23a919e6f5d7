"""What a recipe says of the words stage."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from training.data.wordnet import FETCH, FOLDER


class WordsWeights(BaseModel):
    """Weights of the terms of the loss, see ``training.words.task``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gloss: float = Field(default=1.0, ge=0)
    hypernym: float = Field(default=0.5, ge=0)
    classes: float = Field(default=1.0, ge=0)
    bag: float = Field(default=2.0, ge=0)


class WordsRecipe(BaseModel):
    """``folder``: WordNet's database. ``batch`` counts concepts, ``classes`` those of ImageNet and
    ``bags`` sentences of several words beside each batch. ``lsa``: the token table starts from
    latent semantic analysis. ``context``: tokens that a text is cut at, start and end included.
    ``held_out``: rare concepts that measure what was learned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    epochs: int = Field(default=6, ge=1)
    batch: int = Field(default=512, ge=2)
    classes: int = Field(default=128, ge=1, le=1000)
    bags: int = Field(default=128, ge=1)
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    warmup: float = Field(default=0.05, ge=0, lt=1)
    temperature: float = Field(default=0.07, gt=0)
    weights: WordsWeights = WordsWeights()
    lsa: bool = True
    context: int = Field(default=32, ge=8)
    held_out: int = Field(default=1000, ge=2)

    @field_validator("folder", mode="before")
    @classmethod
    def _is_named(cls, folder: Any) -> Any:
        if folder is None:
            raise ValueError(f"give WordNet's folder: {FETCH}, then --set words.folder={FOLDER}")
        return folder
