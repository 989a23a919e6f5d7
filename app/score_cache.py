"""The cache of scores: by the image's bytes, its prompt, the model's content and the heads."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from app.answer_cache import AnswerCache, LeastRecentlyUsed, Urgency
from app.batching.errors import ClientGone
from app.device.messages import LoadedModel
from app.device.prompts import compared
from app.metrics import Metrics
from app.uploads import Planned
from model.scores import Score

# Bytes that a score may take in the mean; one of more windows takes the place of several.
MEAN_BYTES = 2048
# Of the score itself with its key and their places in the cache; of each window's quality; and of
# each probability that has a name.
_OWN_BYTES, _WINDOW_BYTES, _NAMED_BYTES = 640, 32, 128


class ScoreCache(AnswerCache[Score]):
    """Holds ``most`` scores, in ``MEAN_BYTES`` each in the mean; windows are planned again."""

    def __init__(self, most: int, metrics: Metrics, clock: Callable[[], float]) -> None:
        scores = LeastRecentlyUsed[Score](most, most * MEAN_BYTES, score_bytes)
        super().__init__(scores, clock, lambda result: metrics.answer_cache.labels(result).inc())
        metrics.answer_cache_entries.set_function(lambda: len(scores))
        metrics.answer_cache_bytes.set_function(lambda: scores.bytes)

    async def recognize(self, image: Planned, model: LoadedModel) -> Planned:
        """With the key of its score: two images have one key only if they have one score."""
        since, upload, layout = self._clock(), image.upload, image.layout
        prompt = compared(upload.prompt, layout) or ""
        key = await upload.content.digest(model.key, ",".join(layout.heads), prompt)
        upload.stages.note("cache", since, self._clock() - since)
        return replace(image, key=key)

    def missing(self, images: Iterable[Planned]) -> list[Planned]:
        """Those that have no score yet."""
        return [image for image in images if self.get(image.key) is None]

    def claim(self, image: Planned, urgency: Urgency) -> Planned:
        """Has others wait for an image that nobody computes yet, until it is over."""
        if self.get(image.key) is not None or self.under_way(image.key, urgency):
            return image
        return replace(image, begun=self.begin(image.key, urgency))

    def give_up(self, images: Iterable[Planned]) -> None:
        """Lets those who wait for one of them, and it is not computed, look for another one."""
        for image in images:
            if image.begun:
                self.end(image.begun, ClientGone())

    async def score(
        self, image: Planned, urgency: Urgency, work: Callable[[], Awaitable[Score]]
    ) -> Score:
        """The score that is there, that another request computes, or that ``work`` computes.

        Raises:
            ServiceError: there is no score; says why.
        """
        if image.begun:
            return await self.compute(image.begun, work)
        since, stages = self._clock(), image.upload.stages
        try:
            found = await self.find(image.key, urgency)
        finally:
            stages.note("cache", since, self._clock() - since)
        if found:
            stages.cached = found.result
            return found.answer
        return await self.compute(self.begin(image.key, urgency), work)


def score_bytes(score: Score) -> int:
    """What a score takes in memory, about."""
    named = sum(len(each or ()) for each in (score.scene, score.distortion, score.attributes))
    windows = len(score.crop_quality or ())
    return _OWN_BYTES + _WINDOW_BYTES * windows + _NAMED_BYTES * named + len(score.detail or "")
