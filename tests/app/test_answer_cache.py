"""What is asked for again is not computed again, and nobody suffers for another one's end."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.answer_cache import AnswerCache, LeastRecentlyUsed, Urgency
from app.batching.errors import (
    DeadlineExceeded,
    InferenceFailed,
    InvalidImage,
    Overloaded,
    Quarantined,
    WorkerDown,
)
from app.batching.fairness import Priority
from benchmarks.overload.clock import run

KEY = b"image"
BULK = Priority.BULK


def size(value: str) -> int:
    return len(value)


def test_the_value_that_was_asked_for_longest_ago_makes_room() -> None:
    values = LeastRecentlyUsed[str](2, 100, size)
    values.put(b"a", "1")
    values.put(b"b", "2")
    assert values.get(b"a") == "1"
    values.put(b"c", "3")
    assert [values.get(key) for key in (b"a", b"b", b"c")] == ["1", None, "3"]
    assert (len(values), values.bytes) == (2, 2)


def test_bytes_are_a_bound_too_and_what_is_larger_than_all_drives_nobody_out() -> None:
    values = LeastRecentlyUsed[str](10, 8, size)
    for key in (b"a", b"b", b"c"):
        values.put(key, "xxx")
    assert [values.get(key) for key in (b"a", b"b", b"c")] == [None, "xxx", "xxx"]
    values.put(b"d", "x" * 9)
    assert (len(values), values.bytes) == (2, 6)
    values.put(b"b", "yy")
    assert (len(values), values.bytes, values.get(b"b")) == (2, 5, "yy")


@dataclass
class Asking:
    """Requests for one answer; ``computed``: the names of those that began to compute it."""

    most: int = 10
    computed: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.clock = asyncio.get_running_loop().time
        values = LeastRecentlyUsed[str](self.most, 1000, size)
        self.cache = AnswerCache[str](values, self.clock, lambda r: self.counts.update([r]))

    async def ask(
        self,
        name: str,
        *,
        takes: float = 1.0,
        within: float = 10.0,
        priority: Priority = Priority.INTERACTIVE,
        error: BaseException | None = None,
    ) -> tuple[str, float]:
        """The answer, and when it came; as a request that would compute it in so many seconds."""
        urgency = Urgency(self.clock() + within, priority)

        async def work() -> str:
            self.computed.append(name)
            try:
                async with asyncio.timeout(within):
                    await asyncio.sleep(takes)
            except TimeoutError:
                raise DeadlineExceeded from None
            if error:
                raise error
            return f"by {name}"

        if found := await self.cache.find(KEY, urgency):
            return found.answer, self.clock()
        answer = await self.cache.compute(self.cache.begin(KEY, urgency), work)
        return answer, self.clock()

    def later(self, seconds: float, name: str, **how: Any) -> "asyncio.Task[tuple[str, float]]":
        async def wait() -> tuple[str, float]:
            await asyncio.sleep(seconds)
            return await self.ask(name, **how)

        return asyncio.create_task(wait())


def played(scenario: Callable[[], Any]) -> Any:
    return run(scenario())


def test_an_answer_is_computed_once_for_all_who_ask_meanwhile_and_afterwards() -> None:
    async def scenario() -> None:
        asking = Asking()
        tasks = [asking.later(at, name) for at, name in ((0, "a"), (0, "b"), (0.5, "c"), (2, "d"))]
        answers = await asyncio.gather(*tasks)
        assert answers == [("by a", 1), ("by a", 1), ("by a", 1), ("by a", 2)]
        assert asking.computed == ["a"]
        assert asking.counts == {"miss": 1, "joined": 2, "hit": 1}

    played(scenario)


def test_when_the_client_of_the_one_that_computes_leaves_the_next_takes_over() -> None:
    async def scenario() -> None:
        asking = Asking()
        first, *others = [asking.later(0, name) for name in "abc"]
        await asyncio.sleep(0.5)
        first.cancel()
        assert await asyncio.gather(*others) == [("by b", 1.5), ("by b", 1.5)]
        assert asking.computed == ["a", "b"]
        assert asking.counts == {"miss": 2, "joined": 1}

    played(scenario)


def test_a_deadline_and_a_refusal_are_the_own_of_the_one_that_computes() -> None:
    async def scenario() -> None:
        asking = Asking()
        late = asking.later(0, "late", takes=9, within=8)
        refused = asking.later(0.5, "refused", error=Overloaded(), within=11)
        follower = asking.later(0.5, "follower", within=12)
        results = await asyncio.gather(late, refused, follower, return_exceptions=True)
        assert isinstance(results[0], DeadlineExceeded)
        assert isinstance(results[1], Overloaded)
        assert results[2] == ("by follower", 10)
        assert asking.computed == ["late", "refused", "follower"]

    played(scenario)


def test_a_fault_of_the_image_is_everybodys_as_an_error_of_their_own() -> None:
    async def scenario() -> None:
        asking = Asking()
        tasks = [asking.later(0, name, error=InvalidImage("It is cut off.")) for name in "abc"]
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert [(type(e), str(e)) for e in errors] == [(InvalidImage, "It is cut off.")] * 3
        assert len(set(map(id, errors))) == 3
        assert asking.computed == ["a"]
        await asyncio.gather(asking.later(0, "d"))
        assert asking.computed == ["a", "d"]  # no refusal is remembered

    played(scenario)


@pytest.mark.parametrize("error", [WorkerDown(), InferenceFailed(), RuntimeError("a bug")])
def test_after_another_failure_each_computes_for_itself_and_at_once(error: Exception) -> None:
    async def scenario() -> None:
        asking = Asking()
        first = asking.later(0, "a", error=error)
        others = [asking.later(0, name) for name in "bcd"]
        with pytest.raises(type(error)):
            await first
        assert await asyncio.gather(*others) == [(f"by {name}", 2) for name in "bcd"]

    played(scenario)


def test_who_waits_keeps_its_own_deadline_and_may_leave() -> None:
    async def scenario() -> None:
        asking = Asking()
        first = asking.later(0, "a", takes=5, within=6)
        late, leaves = asking.later(0, "b", within=4.5), asking.later(0, "c")
        await asyncio.sleep(1)
        leaves.cancel()
        with pytest.raises(DeadlineExceeded):
            await late
        assert asking.clock() == 4.5
        assert await first == ("by a", 5)
        assert asking.computed == ["a"]
        assert asking.counts == {"miss": 1, "joined": 2}

    played(scenario)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"priority": BULK}, {}),
        ({"within": 10.0}, {"within": 2.0}),
    ],
    ids=["bulk", "later"],
)
def test_nobody_waits_for_what_is_less_urgent(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    async def scenario() -> None:
        asking = Asking()
        slow = asking.later(0, "slow", takes=5, **first)
        waits = asking.later(0.1, "waits", **first)
        urgent = asking.later(1, "urgent", takes=1, **second)
        joins = asking.later(1.5, "joins", **second)
        results = list(await asyncio.gather(slow, waits, urgent, joins))
        # Whoever waits for the slower one has the answer as soon as anybody.
        assert results == [("by slow", 5.0), *[("by urgent", 2.0)] * 3]
        assert asking.computed == ["slow", "urgent"]

    played(scenario)


def test_bulk_waits_for_what_is_interactive() -> None:
    async def scenario() -> None:
        asking = Asking()
        tasks = asking.later(0, "a"), asking.later(0, "b", priority=BULK)
        await asyncio.gather(*tasks)
        assert asking.computed == ["a"]

    played(scenario)


def test_what_was_begun_before_all_was_forgotten_is_for_those_alone_who_wait_already() -> None:
    async def scenario() -> None:
        asking = Asking()
        before = [asking.later(0, "old", takes=2), asking.later(0, "waits")]
        await asyncio.sleep(1)
        asking.cache.clear()
        after = asking.later(0, "new", takes=3)
        assert await asyncio.gather(*before) == [("by old", 2)] * 2
        assert asking.cache.get(KEY) is None
        assert await after == ("by new", 4)
        assert asking.cache.get(KEY) == "by new"

    played(scenario)


FAULTS = (InvalidImage, Quarantined, Overloaded, WorkerDown, InferenceFailed, RuntimeError)


@dataclass(frozen=True)
class Request:
    at: float
    key: int
    takes: float
    within: float
    is_bulk: bool
    leaves: float | None
    fault: type[Exception] | None


REQUESTS = st.builds(
    Request,
    at=st.integers(0, 8).map(lambda quarter: quarter / 4),
    key=st.integers(0, 1),
    takes=st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0]),
    within=st.sampled_from([0.3, 1.0, 2.0, 10.0]),
    is_bulk=st.booleans(),
    leaves=st.none() | st.integers(0, 8).map(lambda quarter: quarter / 4),
    fault=st.none() | st.sampled_from(FAULTS),
)


class Books:
    """Who computes what now, kept beside the cache."""

    def __init__(self, most: int) -> None:
        self.clock = asyncio.get_running_loop().time
        self.counts: Counter[str] = Counter()
        values = LeastRecentlyUsed[tuple[int, int]](most, 1000, lambda _: 1)
        self.cache = AnswerCache(values, self.clock, lambda r: self.counts.update([r]))
        self.under_way: dict[int, list[Urgency]] = {0: [], 1: []}
        self.failed: set[int] = set()  # keys of which each may compute for itself
        self.generation = 0

    async def ask(self, request: Request) -> str:
        """The one outcome of a request."""
        await asyncio.sleep(request.at)
        begun, generation = self.clock(), self.generation
        deadline = begun + request.within
        urgency = Urgency(deadline, BULK if request.is_bulk else Priority.INTERACTIVE)
        key = bytes([request.key])

        async def work() -> tuple[int, int]:
            others = self.under_way[request.key]
            if request.key not in self.failed:
                assert not any(urgency.waits_for(other, self.clock()) for other in others)
            others.append(urgency)
            served = self.generation
            try:
                async with asyncio.timeout(max(0.0, deadline - self.clock())):
                    await asyncio.sleep(request.takes)
            except TimeoutError:
                raise DeadlineExceeded from None
            finally:
                if urgency in others:
                    others.remove(urgency)
            if request.fault:
                if request.fault in (WorkerDown, InferenceFailed, RuntimeError):
                    self.failed.add(request.key)
                raise request.fault("it")
            return request.key, served

        try:
            found = await self.cache.find(key, urgency)
            answer = found.answer if found else await self.compute(key, urgency, work)
        except Exception as error:  # noqa: BLE001 - which is its outcome
            self.check(error, request, deadline)
            return type(error).__name__
        assert self.clock() <= deadline + 1e-9
        assert answer[0] == request.key
        assert answer[1] >= generation  # of the model that served when it came, or a later one
        return "answer"

    def check(self, error: Exception, request: Request, deadline: float) -> None:
        if isinstance(error, DeadlineExceeded):
            assert self.clock() == pytest.approx(deadline)
        elif not isinstance(error, InvalidImage | Quarantined):
            assert type(error) is request.fault  # nobody else's

    async def compute(self, key: bytes, urgency: Urgency, work: Any) -> tuple[int, int]:
        return await self.cache.compute(self.cache.begin(key, urgency), work)

    async def reload(self, at: float) -> None:
        await asyncio.sleep(at)
        self.generation += 1
        self.under_way = {0: [], 1: []}
        self.cache.clear()


@given(
    requests=st.lists(REQUESTS, min_size=1, max_size=30),
    most=st.integers(1, 2),
    reloads=st.lists(st.integers(0, 12).map(lambda quarter: quarter / 4), max_size=2),
    seed=st.integers(0, 1000),
)
@settings(max_examples=300, deadline=None)
def test_whatever_comes_leaves_and_fails_each_gets_one_outcome_of_its_own(
    requests: list[Request], most: int, reloads: list[float], seed: int
) -> None:
    async def play() -> None:
        books = Books(most)
        tasks = [asyncio.create_task(books.ask(request)) for request in requests]
        operators = [asyncio.create_task(books.reload(at)) for at in reloads]

        async def hang_up(task: "asyncio.Task[str]", request: Request) -> None:
            if request.leaves is not None:
                await asyncio.sleep(request.at + request.leaves)
                for _ in range(random.Random(seed).randrange(4)):
                    await asyncio.sleep(0)
                task.cancel()

        clients = [hang_up(*pair) for pair in zip(tasks, requests, strict=True)]
        await asyncio.gather(*clients, *operators)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result, request in zip(results, requests, strict=True):
            if isinstance(result, BaseException):
                assert isinstance(result, asyncio.CancelledError), result
                assert request.leaves is not None
        assert not books.cache._under_way
        assert books.counts.total() <= len(requests)
        left = sum(isinstance(result, BaseException) for result in results)
        assert books.counts.total() >= len(requests) - left

    run(play())
