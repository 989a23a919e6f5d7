"""Prompts on their way: which count, how large they are, and in the worker which are refused, and
which are embedded together.
"""

from collections.abc import Callable, Iterator, Sequence

from app.batching.errors import BadField
from app.device.messages import Piece
from model.errors import PromptTooLong
from model.preprocess.crops import Layout

# Bytes of prompts that are embedded in one step, and that share a sequence of tokens at worst.
_STEP_BYTES, _SEQUENCE_BYTES = 4096, 64


def compared(prompt: str | None, layout: Layout) -> str | None:
    """The prompt that the image is compared with; None: there is none, or no head for it."""
    return prompt if prompt and "consistency" in layout.heads else None


def refusals(check: Callable[[str], None], pieces: Sequence[Piece]) -> dict[int, BadField]:
    """Why pieces are not scored, by their place: prompts that ``check`` (the scorer's
    ``check_prompt``) finds too long.

    Counting tokens takes the vocabulary, which only the worker holds; the first slice of an image
    is early enough, whose rows the batch computes in any case.
    """
    found = {}
    for place, piece in enumerate(pieces):
        if prompt := compared(piece.prompt, piece.layout):
            try:
                check(prompt)
            except PromptTooLong as error:
                found[place] = BadField(str(error))
    return found


def in_steps(prompts: Sequence[str]) -> Iterator[list[str]]:
    """The prompts in parts of some kilobytes; a longer one alone."""
    part: list[str] = []
    size = 0
    for prompt in prompts:
        own = _length(prompt)
        if part and size + own > _STEP_BYTES:
            yield part
            part, size = [], 0
        part.append(prompt)
        size += own
    if part:
        yield part


def prompt_bytes(prompt: str) -> int:
    """Its length, and as much more as one pass of the text tower takes, which each prompt is."""
    return _SEQUENCE_BYTES + _length(prompt)


def most_sequences(prompts: Sequence[str]) -> float:
    """Sequences of tokens that the text tower may have to run for them."""
    return sum(map(prompt_bytes, prompts)) / _SEQUENCE_BYTES


def _length(prompt: str) -> int:
    return len(prompt.encode("utf-8", "surrogatepass"))
