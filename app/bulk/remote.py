"""Scoring through a running service."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Literal

import agiqa_client as client
from app.bulk.errors import CannotScore, Stopped
from app.bulk.rows import Item, ModelFacts, Row, failed, scored
from model.config import Head

# After so many images in a row without an answer the service is taken to be gone.
_GONE_AFTER = 5


class RemoteScoring:
    """A service, fed with files.

    Args:
        url: of the service.
        model: one that it has loaded; None: its own for generated images.
        heads: None: all that apply to an image.
        api_key: where it wants one.
        concurrency: images under way at once.
        deadline: seconds that an image may take with all its tries; None: the service's for each.

    Raises:
        CannotScore: no service answers there, or it has no such model or heads.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        heads: Sequence[Head] | None = None,
        *,
        api_key: str | None = None,
        concurrency: int = 8,
        deadline: float | None = None,
    ) -> None:
        self._url = url
        self._concurrency = concurrency
        self._deadline = deadline
        self._key = api_key or ""
        try:
            with self._connect() as service:
                loaded = service.models()
        except ValueError as error:
            raise CannotScore(str(error)) from error
        except client.AgiqaError as error:
            hint = " (here: --api-key, or AGIQA_API_KEY)" if error.status == 401 else ""
            raise CannotScore(f"{error.detail}{hint}") from error
        self.model = _facts(url, loaded, model)
        if lacking := set(heads or ()) - set(self.model.heads):
            own = ", ".join(self.model.heads)
            raise CannotScore(
                f"{self.model.name} has no head {min(lacking)!r}; the service's has {own}"
            )
        self._heads = tuple(heads) if heads is not None else None
        wanted = self._heads or self.model.heads
        # Quality alone is /score's, at half the cost of /score-agi.
        self._endpoint: Literal["score", "score-agi"] = (
            "score" if tuple(wanted) == ("quality",) else "score-agi"
        )

    def score(self, items: Sequence[Item]) -> Generator[Row, None, None]:
        """One row per item, in order.

        Raises:
            Stopped: several images in a row got no answer.
        """
        sent = (
            client.Item(item.path, item.prompt, self._endpoint, self.model.name) for item in items
        )
        silent = 0
        with self._connect() as service:
            results = service.score_many(
                sent, concurrency=self._concurrency, deadline=self._deadline
            )
            # Closed at once when it ends early: what is under way at the service is given up.
            with closing(results):
                for item, (_, result) in zip(items, results, strict=True):
                    row = self._row(item, result)
                    silent = silent + 1 if row["code"] == "unreachable" else 0
                    yield row
                    if silent == _GONE_AFTER:
                        raise Stopped(f"no service answers at {service.url} any more")

    def _connect(self) -> client.Client:
        # With "" as its key, the client looks for none in the environment.
        return client.Client(self._url, api_key=self._key, retries=2)

    def _row(self, item: Item, result: client.Result) -> Row:
        if isinstance(result, client.AgiqaError):
            return failed(item, self.model, _code(result), result.detail)
        answer = asdict(result)
        for head in self.model.heads:
            if self._heads is not None and head not in self._heads:
                answer[head] = None
        if self._heads and "consistency" in self._heads and item.prompt is None:
            detail = "consistency needs the prompt that the image was generated from"
            return failed(item, self.model, "bad_field", detail)
        return scored(item, self.model, answer)


def _facts(url: str, loaded: Sequence[client.Model], wanted: str | None) -> ModelFacts:
    names = ", ".join(model.name for model in loaded)
    for model in loaded:
        if model.name == wanted or (wanted is None and "/score-agi" in model.default_for):
            return ModelFacts.of(model.raw)
    raise CannotScore(f"the service at {url} has no model {wanted!r}; it has loaded {names}")


def _code(error: client.AgiqaError) -> str:
    if error.code is not None:
        # Without a status no service has spoken: the file could not be read here.
        return "unreadable_file" if error.status is None else error.code
    if isinstance(error, client.Unreachable):
        return "unreachable"
    return "deadline" if isinstance(error, client.DeadlineExceeded) else "internal"
