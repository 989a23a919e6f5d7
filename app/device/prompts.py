"""The prompts of a batch, in the worker: which are refused, and which are embedded together."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from app.batching.errors import BadField
from app.device.messages import Piece
from model.errors import PromptTooLong

if TYPE_CHECKING:
    from model.scorer import Scorer

# Bytes of prompts that are embedded in one step, and that share a sequence of tokens at worst.
_STEP_BYTES, _SEQUENCE_BYTES = 4096, 64


def wanted(piece: Piece) -> str | None:
    """The prompt that the piece's image is compared with; None: there is none, or no head."""
    return piece.prompt if piece.prompt and "consistency" in piece.layout.heads else None


def refusals(scorer: "Scorer", pieces: Sequence[Piece]) -> dict[int, BadField]:
    """Why pieces are not scored, by their place: prompts that are too long.

    Counting tokens takes the vocabulary, which only the worker holds; the first slice of an image
    is early enough, whose rows the batch computes in any case.
    """
    found = {}
    for place, piece in enumerate(pieces):
        if prompt := wanted(piece):
            try:
                scorer.check_prompt(prompt)
            except PromptTooLong as error:
                found[place] = BadField(str(error))
    return found


def in_steps(prompts: Sequence[str]) -> Iterator[list[str]]:
    """The prompts in parts of some kilobytes; a longer one alone."""
    part: list[str] = []
    size = 0
    for prompt in prompts:
        own = len(prompt.encode())
        if part and size + own > _STEP_BYTES:
            yield part
            part, size = [], 0
        part.append(prompt)
        size += own
    if part:
        yield part


def most_sequences(prompts: Sequence[str]) -> float:
    """Sequences of tokens that the text tower may have to run for them, by their bytes."""
    return len(prompts) + sum(len(prompt.encode()) for prompt in prompts) / _SEQUENCE_BYTES
