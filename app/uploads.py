"""An image on its way: as it came in, and what is known of it from its header."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from app.answer_cache import Computation
from app.batching.fairness import ANYBODY, Sender
from app.batching.jobs import Stages
from app.batching.ledger import Load, Ticket
from app.contents import Content
from model.preprocess.crops import Layout
from model.preprocess.headers import Header
from model.scores import Score


@dataclass(frozen=True)
class Upload:
    """One image as it came in, with the prompt that it was generated from, and who sent it.

    ``place`` is what it was let in with at the door, ``stages`` collects the seconds of its way
    through the house.
    """

    data: bytes
    filename: str | None = None
    prompt: str | None = None
    sender: Sender = ANYBODY
    place: Ticket | None = field(default=None, compare=False)
    stages: Stages = field(default_factory=Stages, compare=False)

    @cached_property
    def content(self) -> Content:
        """What it is recognized by when it comes again."""
        return Content(self.data)


@dataclass(frozen=True)
class Planned:
    """An upload, and what it costs.

    ``key`` is that of its score, where scores are cached; ``begun``: others wait for this one, by
    the batch call that it is part of.
    """

    upload: Upload
    header: Header
    layout: Layout
    load: Load
    key: bytes = b""
    begun: Computation[Score] | None = None


def load_of(images: Iterable[Planned]) -> Load:
    """What they are to the service together."""
    return sum((image.load for image in images), Load(0, 0))
