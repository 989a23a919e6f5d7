"""A client of the agiqa scoring service: one file, on httpx alone; copy it, or install agiqa.

    from agiqa_client import Client

    with Client("http://127.0.0.1:8000") as client:
        client.score("photo.jpg").quality
        client.score_agi("generated.png", "a tray of sushi", deadline=5).consistency

Busy (429), not ready (503), no connection, and a 500 or 502 of a front whose replica died are
tried again, of a batch those images alone that met it: after what ``Retry-After`` says and up to a
quarter more, else after exponential back-off with full jitter. A ``deadline`` bounds all tries
together, and the service is told what is left of it. Interrupting or cancelling a call closes its
connection, and the service drops the work. Errors carry the service's own sentence:

    AgiqaError              .detail .code .status .request_id .retry_after
    ├── Refused             4xx: this request can't be served, sending it again changes nothing
    ├── Unavailable         503 in all tries: loading, shutting down, or its worker is down
    │   └── Overloaded      429 in all tries
    ├── DeadlineExceeded    504, or no answer in the time allowed here
    ├── Failed              500, or what answers is no agiqa service
    └── Unreachable         no connection in all tries
"""

import asyncio
import email.utils
import functools
import itertools
import math
import os
import random
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Concatenate, Literal, ParamSpec, Protocol, TypedDict, TypeVar, Unpack
from urllib.parse import urlsplit

import httpx

__all__ = [
    "AgiqaError",
    "AsyncClient",
    "Client",
    "DeadlineExceeded",
    "Failed",
    "Item",
    "Model",
    "Overloaded",
    "Refused",
    "Score",
    "Unavailable",
    "Unreachable",
]

P = ParamSpec("P")
T = TypeVar("T")

_BACK_OFF, _LONGEST_BACK_OFF, _POLL, _CONNECT = 0.5, 8.0, 0.25, 10.0  # seconds
_PART = 1 << 16  # bytes between two looks at the clock
_OF_A_FRONT = (500, 502)  # without a code of ours: the replica behind it died under the request
_GRACE = 0.05  # s in which httpx may say more exactly what took too long


class AgiqaError(Exception):
    """Base; ``detail`` is the sentence that says what to do."""

    code: str | None = None  # the service's stable code
    status: int | None = None
    request_id: str | None = None  # what to look for in the service's log
    retry_after: float | None = None  # s until the service wants to be asked again

    def __init__(self, detail: str, **facts: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        vars(self).update(facts)


class Refused(AgiqaError):
    """The request itself can't be served; sending it again changes nothing."""


class Unavailable(AgiqaError):
    """Not now, in all tries."""


class Overloaded(Unavailable):
    """Too busy, in all tries."""


class DeadlineExceeded(AgiqaError):
    """The answer was not there in time."""


class Failed(AgiqaError):
    """The service failed on this request, or what answers is no agiqa service."""


class Unreachable(AgiqaError):
    """No connection, in all tries."""


class Savable(Protocol):
    """What Pillow's images have; they are sent as PNG."""

    def save(self, fp: BytesIO, format: str) -> object:
        """Writes the image to a file."""


Image = str | os.PathLike[str] | bytes | IO[bytes] | Savable


@dataclass(frozen=True)
class ModelName:
    """Which model gave the scores."""

    name: str
    revision: str


@dataclass(frozen=True)
class CropScore:
    """Quality of one window; ``box``: x, y, width, height in pixels of the upright original."""

    box: tuple[int, int, int, int]
    score: float


@dataclass(frozen=True)
class Score:
    """The answer for one image; docs/api.md tells what its fields are, ``raw`` is all that came.

    Scores lie in [0, 1], high = better; None where the model or the endpoint has none. ``detail``
    is a sentence, where there is something to be known of them.
    """

    quality: float
    mos: float
    mos_range: tuple[float, float]
    crops: int
    scaled: bool
    model: ModelName
    alignment: float | None
    consistency: float | None
    scene: dict[str, float] | None
    distortion: dict[str, float] | None
    attributes: dict[str, float] | None
    crop_scores: tuple[CropScore, ...] | None
    raw: dict[str, Any] = field(repr=False, compare=False)
    detail: str | None = None


Result = Score | AgiqaError
Images = Iterable[Image]
Priority = Literal["interactive", "bulk"]
Prompts = Iterable[str | None] | None


@dataclass(frozen=True)
class Model:
    """A model that the service has loaded; ``raw`` is the whole description."""

    name: str
    method: str
    heads: tuple[str, ...]
    default_for: tuple[str, ...]
    raw: dict[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Item:
    """One image for ``score_many``; "score" is quality alone, by the model for photographs."""

    image: Image
    prompt: str | None = None
    endpoint: Literal["score", "score-agi"] = "score-agi"
    model: str | None = None


@dataclass(frozen=True)
class Clock:
    """Time and chance; tests put others in their place."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    sleep_async: Callable[[float], Awaitable[None]] = asyncio.sleep
    uniform: Callable[[float, float], float] = random.uniform


class Connection(TypedDict, total=False):
    """What both clients take by name, after the url."""

    api_key: str | None  # None: the environment's AGIQA_API_KEY; "": none
    timeout: float  # [60] s for connecting, sending, answering without a deadline; longest pause
    retries: int  # [4] tries after the first one
    priority: Priority | None  # of all calls; None: the service's own, bulk for batches alone
    transport: Any  # of httpx, for tests and sockets
    clock: Clock  # for tests


class Options(TypedDict, total=False):
    """What every scoring call takes by name."""

    model: str | None  # one of the loaded models; None: the endpoint's own
    detail: bool  # adds crop_scores
    deadline: float | None  # s for all tries together; None: the service's own, for each
    priority: Priority | None  # "bulk" where nobody waits for this answer; None: the client's
    request_id: str | None  # sent as X-Request-ID; the service logs under it


@dataclass
class _Tries:
    """Of one call: until when, how many, and how often it was tried again."""

    end: float
    most: float
    pause: float | None = None
    count: int = 0


class AsyncClient:
    """Asks the service at ``url``; raises ValueError if that is no address."""

    def __init__(self, url: str = "http://127.0.0.1:8000", **given: Unpack[Connection]) -> None:
        self.url = (url if "://" in url else f"http://{url}").rstrip("/")
        parts = urlsplit(self.url)
        # Reading a port that is no number raises ValueError too.
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
            raise ValueError(f"{url}: give an address like http://localhost:8000")
        self._timeout = given.get("timeout", 60.0)
        self._retries = given.get("retries", 4)
        self._priority = given.get("priority")
        self._clock = given.get("clock", Clock())
        key = given.get("api_key")
        key = os.environ.get("AGIQA_API_KEY") if key is None else key
        self._http = self._open(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            transport=given.get("transport"),
            # A proxy of the environment does not reach this machine's own services.
            trust_env=parts.hostname not in {"localhost", "127.0.0.1", "::1"},
        )

    async def score(self, image: Image, **options: Unpack[Options]) -> Score:
        """Quality of an image, by the model for photographs unless another one is named.

        Raises:
            AgiqaError: no score came of it.
            OSError: the image's file can't be read.
        """
        form = {"files": {"image": await self._aside(_upload, image)}}
        return _read(await self._ask("/score", options, form), _score)

    async def score_agi(
        self, image: Image, prompt: str | None = None, **options: Unpack[Options]
    ) -> Score:
        """Quality and alignment of a generated image, and its consistency with the prompt."""
        file = await self._aside(_upload, image)
        form = {"files": {"image": file}, "data": {"prompt": prompt or ""}}
        return _read(await self._ask("/score-agi", options, form), _score)

    async def score_batch(self, images: Images, **options: Unpack[Options]) -> list[Result]:
        """``score`` of at most 64 images in one request: in order, an error for one without."""
        files = [("images", await self._aside(_upload, image)) for image in images]
        return await self._ask_all("/score/batch", options, files, [])

    async def score_agi_batch(
        self, images: Images, prompts: Prompts = None, **options: Unpack[Options]
    ) -> list[Result]:
        """``score_agi`` of several images, likewise; ``prompts``: none, or one (or None) each."""
        files = [("images", await self._aside(_upload, image)) for image in images]
        words = [prompt or "" for prompt in prompts or ()]
        return await self._ask_all("/score-agi/batch", options, files, words)

    async def score_many(
        self, items: Iterable[Item], *, concurrency: int = 8, **options: Unpack[Options]
    ) -> AsyncGenerator[tuple[Item, Result], None]:
        """Any number of images, ``concurrency`` at a time, each with its result, in order.

        Items are taken as room comes, at most twice ``concurrency`` ahead; the model is each
        item's own. Closing the iterator gives up what is under way.
        """
        room, waiting = asyncio.Semaphore(concurrency), iter(items)
        window: deque[tuple[Item, asyncio.Task[Result]]] = deque()
        try:
            while True:
                for item in itertools.islice(waiting, 2 * concurrency - len(window)):
                    work = asyncio.create_task(self._scored(item, room, options))
                    window.append((item, work))
                if not window:
                    return
                yield window[0][0], await window[0][1]
                window.popleft()
        finally:
            await _cancel([task for _, task in window])

    async def models(self) -> list[Model]:
        """What the service has loaded."""
        return _read(await self._ask("/models", {}), _models)

    async def ready(self) -> bool:
        """Whether the service takes requests now."""
        try:
            await self._ask("/readyz", {}, tries=_Tries(self._clock.now() + _CONNECT, 0))
        except (Unavailable, Unreachable, DeadlineExceeded):
            return False
        return True

    async def wait_until_ready(self, seconds: float = 60.0) -> None:
        """Waits until it takes requests; raises Unavailable or Unreachable after that time."""
        tries = _Tries(self._clock.now() + seconds, math.inf, _POLL)
        await self._ask("/readyz", {}, tries=tries)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _scored(self, item: Item, room: asyncio.Semaphore, options: Options) -> Result:
        own: Options = {**options, "model": item.model}
        async with room:
            try:
                if item.endpoint == "score":
                    return await self.score(item.image, **own)
                return await self.score_agi(item.image, item.prompt, **own)
            except AgiqaError as error:
                return error
            except OSError as error:
                return Refused(f"The image can't be read: {error}", code="bad_field")

    async def _ask_all(
        self, path: str, options: Options, files: list[tuple[str, Any]], words: list[str]
    ) -> list[Result]:
        """The result of each image; those that met what passes are sent again, by themselves."""
        tries = self._tries(options)
        results: dict[int, Result] = {}
        left = list(range(len(files)))
        while True:
            form: dict[str, Any] = {"files": [files[i] for i in left]}
            if words:
                # The service says what is wrong with too few or too many.
                form["data"] = {"prompts": [words[i] for i in left] if results else words}
            try:
                answers = _read(await self._ask(path, options, form, tries=tries), _results)
            except AgiqaError as error:
                if not results:
                    raise
                results |= dict.fromkeys(left, error)
                break
            results |= zip(left, answers, strict=False)
            passing = {i: e for i in left if isinstance(e := results.get(i), Unavailable)}
            left = list(passing)
            if not left or not await self._another(tries, _longest(passing.values())):
                break
        return [results[i] for i in sorted(results)]

    def _tries(self, options: Options) -> _Tries:
        deadline = options.get("deadline")
        end = math.inf if deadline is None else self._clock.now() + deadline
        return _Tries(end, self._retries)

    async def _ask(
        self,
        path: str,
        options: Options,
        form: dict[str, Any] | None = None,
        *,
        tries: _Tries | None = None,
    ) -> httpx.Response:
        """Tries until there is an answer or an error that does not pass, or until the deadline or
        the retries are used up; with a ``pause``, at that interval.
        """
        tries = tries or self._tries(options)
        error: AgiqaError = DeadlineExceeded("The deadline has passed; allow more time.")
        while (left := tries.end - self._clock.now()) > 0:
            try:
                return await self._try(path, options, form, left)
            except (Unavailable, Unreachable) as passing:
                error = passing
            except Failed as failed:
                if failed.code or failed.status not in _OF_A_FRONT:
                    raise
                error = failed
            if not await self._another(tries, error):
                break
        raise error

    async def _another(self, tries: _Tries, error: AgiqaError) -> bool:
        """Waits until it is time to try again; False at once where that is not to be."""
        wait = tries.pause or self._wait(error, tries.count)
        most = min(tries.end - self._clock.now(), self._timeout)
        if wait >= most or tries.count >= tries.most:
            return False
        tries.count += 1
        await self._sleep(wait)
        return True

    def _wait(self, error: AgiqaError, tried: int) -> float:
        if error.retry_after is None:
            return self._clock.uniform(0, min(_LONGEST_BACK_OFF, _BACK_OFF * 2**tried))
        # Those who were refused together do not come back together.
        return error.retry_after + self._clock.uniform(0, error.retry_after / 4)

    async def _try(
        self, path: str, options: Options, form: dict[str, Any] | None, left: float
    ) -> httpx.Response:
        headers = {"X-Request-ID": options.get("request_id")}
        headers["X-Priority"] = options.get("priority") or self._priority
        headers["X-Request-Timeout"] = None if math.isinf(left) else f"{max(left, 0.001):.3f}"
        asked = {"model": options.get("model"), "detail": options.get("detail") or None}
        seconds = self._timeout if math.isinf(left) else left
        request = self._http.build_request(
            "POST" if form else "GET",
            path,
            params={name: value for name, value in asked.items() if value is not None},
            headers={name: value for name, value in headers.items() if value},
            timeout=httpx.Timeout(seconds, connect=min(seconds, _CONNECT)),
            **(form or {}),
        )
        try:
            response = await self._send(request, left, follow_redirects=not form)
        except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout) as error:
            sentence = f"No answer came within {seconds:.3g} s; allow more time."
            raise DeadlineExceeded(sentence) from error
        except httpx.LocalProtocolError as error:
            raise ValueError(f"The request can't be sent: {error}") from error
        except httpx.RequestError as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"no service answers at {self.url} ({reason})") from error
        if not response.is_success:
            raise _refusal(response)
        return response

    # From here on: what a client that waits does in another way.

    def _open(self, **options: Any) -> Any:
        return httpx.AsyncClient(**options)

    async def _send(self, request: httpx.Request, left: float, **options: Any) -> httpx.Response:
        # httpx bounds each pause; a service that answers byte by byte has many.
        async with asyncio.timeout(None if math.isinf(left) else left + _GRACE):
            response: httpx.Response = await self._http.send(request, **options)
        return response

    async def _sleep(self, seconds: float) -> None:
        await self._clock.sleep_async(seconds)

    async def _aside(self, work: Callable[[Image], T], image: Image) -> T:
        return await asyncio.to_thread(work, image)


@dataclass
class _Timed(httpx.SyncByteStream):
    """A body, sent or received, that ends with TimeoutError once it is too late."""

    body: Any
    late: Callable[[], bool]

    def __iter__(self) -> Generator[bytes, None, None]:
        for part in self.body:
            for start in range(0, len(part), _PART):
                if self.late():
                    raise TimeoutError
                yield part[start : start + _PART]

    def close(self) -> None:
        self.body.close()


class _Waiting(AsyncClient):
    """Its coroutines never give way, so each is done in one step."""

    def _open(self, **options: Any) -> Any:
        return httpx.Client(**options)

    async def _send(self, request: httpx.Request, left: float, **options: Any) -> httpx.Response:
        end = self._clock.now() + left

        def late() -> bool:
            return self._clock.now() > end

        request.stream = _Timed(request.stream, late)
        response: httpx.Response = self._http.send(request, stream=True, **options)
        with closing(response):
            response.stream = _Timed(response.stream, late)
            response.read()
        return response

    async def _sleep(self, seconds: float) -> None:
        self._clock.sleep(seconds)

    async def _aside(self, work: Callable[[Image], T], image: Image) -> T:
        return work(image)


def _now(
    method: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["Client", P], T]:
    """The same method for the client that waits."""

    @functools.wraps(method)
    def call(client: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            method(client._calls, *args, **kwargs).send(None)
        except StopIteration as end:
            result: T = end.value
            return result
        raise AssertionError("a coroutine of the waiting client gave way")

    return call


class Client:
    """As ``AsyncClient``, but waits for the answers; threads may share it."""

    def __init__(self, url: str = "http://127.0.0.1:8000", **given: Unpack[Connection]) -> None:
        self._calls = _Waiting(url, **given)
        self._given = given
        self.url = self._calls.url

    score = _now(AsyncClient.score)
    score_agi = _now(AsyncClient.score_agi)
    score_batch = _now(AsyncClient.score_batch)
    score_agi_batch = _now(AsyncClient.score_agi_batch)
    models = _now(AsyncClient.models)
    ready = _now(AsyncClient.ready)
    wait_until_ready = _now(AsyncClient.wait_until_ready)

    def score_many(
        self, items: Iterable[Item], *, concurrency: int = 8, **options: Unpack[Options]
    ) -> Generator[tuple[Item, Result], None, None]:
        """As ``AsyncClient.score_many``; ``items`` are taken, and images read, in other threads."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        client = AsyncClient(self.url, **self._given)
        results = client.score_many(items, concurrency=concurrency, **options)

        def run(work: Coroutine[Any, Any, T]) -> T:
            return asyncio.run_coroutine_threadsafe(work, loop).result()

        try:
            while pair := run(_next(results)):
                yield pair
        finally:
            run(_wind_up(client))
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def close(self) -> None:
        """Closes the connections."""
        self._calls._http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def _next(results: AsyncGenerator[T, None]) -> T | None:
    return await anext(results, None)


async def _cancel(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _wind_up(client: AsyncClient) -> None:
    await _cancel(asyncio.all_tasks() - {asyncio.current_task()})
    await asyncio.get_running_loop().shutdown_asyncgens()
    await client.aclose()


def _upload(image: Any) -> tuple[str, bytes]:
    """Name and bytes of a file; read before the first try, so that it can be sent again."""
    if isinstance(image, bytes | bytearray | memoryview):
        return "image", bytes(image)
    if isinstance(image, str | os.PathLike):
        return Path(image).name, Path(image).read_bytes()
    name = Path(str(getattr(image, "name", None) or getattr(image, "filename", "") or "image")).name
    if hasattr(image, "read"):
        return name, image.read()
    if hasattr(image, "save"):
        image.save(file := BytesIO(), format="PNG")
        return name, file.getvalue()
    raise TypeError(f"{type(image).__name__} is no image; give a path, bytes, a file or Pillow's")


def _read(response: httpx.Response, what: Callable[[Any], T]) -> T:
    try:
        return what(response.json())
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        sentence = f"What answers at {response.url} is no agiqa service."
        raise Failed(sentence, status=response.status_code) from error


def _score(body: dict[str, Any]) -> Score:
    low, high = body["mos_range"]
    crops = body.get("crop_scores")
    optional = ("alignment", "consistency", "scene", "distortion", "attributes", "detail")
    return Score(
        quality=float(body["quality"]),
        mos=float(body["mos"]),
        mos_range=(float(low), float(high)),
        crops=int(body["crops"]),
        scaled=bool(body["scaled"]),
        model=ModelName(body["model"]["name"], body["model"]["revision"]),
        **{name: body.get(name) for name in optional},
        crop_scores=crops and tuple(CropScore(tuple(c["box"]), c["score"]) for c in crops),
        raw=body,
    )


def _longest(errors: Iterable[Unavailable]) -> Unavailable:
    """The one after which to wait longest."""
    return max(errors, key=lambda error: error.retry_after or 0.0)


def _results(body: dict[str, Any]) -> list[Result]:
    return [_problem(item) if "code" in item else _score(item) for item in body["results"]]


def _models(body: dict[str, Any]) -> list[Model]:
    return [
        Model(m["name"], m["method"], tuple(m["heads"]), tuple(m["default_for"]), m)
        for m in body["models"]
    ]


def _problem(body: dict[str, Any], **facts: Any) -> AgiqaError:
    """The error that a problem object tells of; ``facts`` are known beside it."""
    status = facts.get("status") or body["status"]
    kind = {429: Overloaded, 503: Unavailable, 504: DeadlineExceeded}.get(status)
    kind = kind or (Refused if status < 500 else Failed)
    known = {"status": status, "code": body.get("code"), "request_id": body.get("request_id")}
    known["retry_after"] = body.get("retry_after")
    return kind(str(body["detail"]), **(known | facts))


def _refusal(response: httpx.Response) -> AgiqaError:
    facts = {
        "status": response.status_code,
        "request_id": response.headers.get("x-request-id"),
        "retry_after": _retry_after(response.headers),
    }
    try:
        return _problem(response.json(), **facts)
    except (ValueError, LookupError, TypeError, AttributeError):
        return _problem(
            {"detail": f"HTTP {response.status_code} {response.reason_phrase}"}, **facts
        )


def _retry_after(headers: httpx.Headers) -> float | None:
    """Seconds, or a date; that is compared with the answer's own, in case the clocks differ."""
    value = headers.get("retry-after", "")
    if value.isdecimal():
        return float(value)
    if not (when := email.utils.parsedate_tz(value)):
        return None
    now = email.utils.parsedate_tz(headers.get("date", ""))
    since = email.utils.mktime_tz(now) if now else time.time()
    return max(0.0, email.utils.mktime_tz(when) - since)
