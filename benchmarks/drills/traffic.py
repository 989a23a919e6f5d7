"""Real traffic: images whose scores are known, and what came back for them."""

import asyncio
import concurrent.futures
import itertools
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from typing import Any

import httpx

from benchmarks.drills.aside import Aside
from benchmarks.load import PROMPTS, subjects

# Rows of one image are computed in other batches each time: the last digits differ.
TOLERANCE = 0.01
TIMEOUT = 30.0
# What a service under attack or with a fault may answer to what it can't serve now.
HONEST = frozenset({429, 503, 504})


@dataclass(frozen=True)
class Subject:
    """An upload of real traffic and its score when nothing else happens."""

    path: str
    data: bytes
    prompt: str | None = None
    alone: float = math.nan


@dataclass(frozen=True)
class Answer:
    """What a request came to; status 0: no answer at all."""

    seconds: float
    status: int
    code: str = ""
    off_by: float = 0.0  # of a score, from the one alone
    at: float = field(default_factory=time.monotonic)  # when it came

    @property
    def is_wrong(self) -> bool:
        """A score, but another image's."""
        return self.status == 200 and not self.off_by <= TOLERANCE


def uploads(count: int = 8) -> list[Subject]:
    """Real images, good and bad ones of several sizes, for both endpoints."""
    good, poor = subjects()
    images = [image for pair in zip(good[::3], poor[1::3], strict=False) for image in pair]
    kinds = itertools.cycle([("/score", None), *(("/score-agi", prompt) for prompt in PROMPTS[:2])])
    return [
        Subject(path, data, prompt)
        for data, (path, prompt) in itertools.islice(zip(images, kinds, strict=False), count)
    ]


def learn(url: str, subjects: Sequence[Subject], key: str = "") -> list[Subject]:
    """The subjects with their scores, asked for one after another.

    Raises:
        RuntimeError: one gets no score.
    """
    learned = []
    with httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False) as client:
        for subject in subjects:
            answer = client.post(subject.path, **_form(subject, key))
            if answer.status_code != 200:
                raise RuntimeError(f"alone, an image gets {answer.status_code}: {answer.text}")
            alone = float(answer.json()["quality"])
            learned.append(Subject(subject.path, subject.data, subject.prompt, alone))
    return learned


class Traffic(Aside[list[Answer]]):
    """``clients`` that each send a request every ``every`` seconds, in a process of their own."""

    def __init__(
        self,
        url: str,
        subjects: Sequence[Subject],
        *,
        key: str = "",
        clients: int = 2,
        every: float = 0.4,
    ) -> None:
        super().__init__(_send, url, tuple(subjects), key, clients, every)


def burst(url: str, subjects: Sequence[Subject], count: int) -> "Burst":
    """Sends ``count`` requests at once, in threads; ``Burst.answers`` waits for all."""
    return Burst(url, subjects, count)


class Burst:
    """Requests that are under way."""

    def __init__(self, url: str, subjects: Sequence[Subject], count: int) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(count)
        chosen = itertools.islice(itertools.cycle(subjects), count)
        self._jobs = [self._pool.submit(post, url, subject) for subject in chosen]

    def answers(self) -> list[Answer]:
        """All answers; those that do not come within the time-out have status 0."""
        found = [job.result() for job in self._jobs]
        self._pool.shutdown()
        return found


def post(url: str, subject: Subject, key: str = "", timeout: float = TIMEOUT) -> Answer:
    """One request on a connection of its own."""
    start = time.monotonic()
    try:
        answer = httpx.post(
            url + subject.path, **_form(subject, key), timeout=timeout, trust_env=False
        )
    except httpx.TransportError as error:
        return Answer(time.monotonic() - start, 0, type(error).__name__)
    return _answer(subject, answer, time.monotonic() - start)


def quantile(answers: Sequence[Answer], share: float) -> float:
    """Seconds within which that share was served; infinite where fewer were served at all."""
    times = sorted(a.seconds if a.status == 200 else math.inf for a in answers)
    return times[min(len(times) - 1, int(share * len(times)))] if times else math.nan


def statuses(answers: Sequence[Answer]) -> str:
    """``200 x 61, 504 deadline x 2``."""
    names = Counter(
        f"{a.status} {a.code}".strip() if a.status else f"no answer ({a.code})" for a in answers
    )
    return ", ".join(f"{name} x {count}" for name, count in sorted(names.items())) or "none"


def wrong(answers: Sequence[Answer]) -> int:
    """How many got a score that is not theirs."""
    return sum(answer.is_wrong for answer in answers)


def _send(
    stop: Event, url: str, subjects: Sequence[Subject], key: str, clients: int, every: float
) -> list[Answer]:
    return asyncio.run(_send_all(stop, url, subjects, key, clients, every))


async def _send_all(
    stop: Event, url: str, subjects: Sequence[Subject], key: str, clients: int, every: float
) -> list[Answer]:
    answers: list[Answer] = []

    async def one(number: int) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT, trust_env=False) as client:
            for subject in itertools.islice(itertools.cycle(subjects), number, None):
                if stop.is_set():
                    return
                due = time.monotonic() + every
                answers.append(await _one(client, subject, key))
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    await asyncio.gather(*(one(number) for number in range(clients)))
    return answers


async def _one(client: httpx.AsyncClient, subject: Subject, key: str) -> Answer:
    start = time.monotonic()
    try:
        answer = await client.post(subject.path, **_form(subject, key))
    except httpx.TransportError as error:
        return Answer(time.monotonic() - start, 0, type(error).__name__)
    return _answer(subject, answer, time.monotonic() - start)


def _form(subject: Subject, key: str) -> dict[str, Any]:
    return {
        "files": {"image": subject.data},
        "data": {"prompt": subject.prompt} if subject.prompt else {},
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
    }


def _answer(subject: Subject, answer: httpx.Response, seconds: float) -> Answer:
    if answer.status_code != 200:
        return Answer(seconds, answer.status_code, code_of(answer))
    quality = float(answer.json()["quality"])
    known = not math.isnan(subject.alone)
    return Answer(seconds, 200, "", abs(quality - subject.alone) if known else 0.0)


def code_of(answer: httpx.Response) -> str:
    """The problem's stable code; ``plain`` where the answer is no problem document."""
    if "json" not in answer.headers.get("content-type", ""):
        return "plain"
    return str(answer.json().get("code", "no code"))
