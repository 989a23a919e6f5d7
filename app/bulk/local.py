"""Scoring on this machine: what the pipeline gives, as rows."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING

from app.bulk.rows import Item, ModelFacts, Row, failed, scored
from model.config import Head
from model.errors import ImageError, InferenceError

if TYPE_CHECKING:
    from model.pipeline import Pipeline


class LocalScoring:
    """A pipeline, fed with files.

    Args:
        pipeline: of a scorer of any method.
        model: what rows say of it.
        heads: None: all that apply to an image.
    """

    def __init__(
        self, pipeline: "Pipeline", model: ModelFacts, heads: Sequence[Head] | None = None
    ) -> None:
        self.model = model
        self._pipeline = pipeline
        self._heads = heads

    def score(self, items: Sequence[Item]) -> Generator[Row, None, None]:
        """One row per item, in order."""
        files = [(item.source or item.path, item.prompt) for item in items]
        with closing(self._pipeline.score(files, self._heads)) as results:
            for number, result in results:
                if isinstance(result, Exception):
                    yield failed(items[number], self.model, *_reason(result))
                else:
                    yield scored(items[number], self.model, asdict(result))


def _reason(error: Exception) -> tuple[str, str]:
    """Code and detail of a row without scores."""
    if isinstance(error, ImageError | InferenceError):
        return error.code, str(error)
    if isinstance(error, OSError):
        return "unreadable_file", f"The file can't be read: {error.strerror or error}."
    return "bad_field", str(error)
