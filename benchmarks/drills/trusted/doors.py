"""Every route in every spelling, with every kind of wrong key: never a 2xx."""

import concurrent.futures
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from benchmarks.drills import raw
from benchmarks.drills.corpus.sample import encoded
from benchmarks.drills.frame import Drill, Report
from benchmarks.drills.service import Service, service

_KEY = "open-sesame"
_PUBLIC = frozenset({"/", "/docs", "/openapi.json", "/livez", "/readyz", "/metrics"})
_METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "post", "FOO")
_METHODS_SHORT = ("GET", "POST", "HEAD")
# What may be put behind a path, and before it.
_PRINTABLE = (
    "/ // %0A %0a %0D %0D%0A %00 %09 %20 %2F %2e /. /..; //%0A /%0A /%2e ;a=b ? # %3F %23 "
    "?key=open-sesame %E2%80%A8 %C2%85 %0B %250A \\ %5C .json %FF /static/.. %1F"
)
_AFTER = ("", "\t", "\x0b", *_PRINTABLE.split())
_BEFORE = ("/", "//", "/./", "/%2e/", "/static/../", "/livez/../", "/%2F", "\\", "/x/..//")
_KEYS: tuple[dict[str, str], ...] = (
    {},
    {"Authorization": "Bearer "},
    {"Authorization": "Bearer wrong"},
    {"Authorization": f"Basic {_KEY}"},
    {"Authorization": f"Bearer {_KEY}x"},
    {"Authorization": f"Bearer {_KEY[:-1]}"},
    {"Authorization": _KEY},
    {"X-API-Key": _KEY, "Cookie": f"key={_KEY}"},
)


@dataclass(frozen=True)
class _Try:
    method: str
    target: str
    headers: dict[str, str]


def run(report: Report) -> None:
    with service(report.folder, {"AGIQA_API_KEYS": _KEY}) as running:
        routes = _guarded(running)
        served = _served_with_the_key(running)
        report.check("the right key opens", served, set(served) == {200})
        tries = list(_tries(routes, _METHODS_SHORT if report.short else _METHODS))
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            statuses = list(pool.map(lambda each: _status(running, each), tries))
        open_ = [each for each, status in zip(tries, statuses, strict=True) if 200 <= status < 300]
        some = ", ".join(f"{each.method} {each.target!r}" for each in open_[:4])
        counts = ", ".join(f"{status or 'closed'} x {n}" for status, n in _sorted(statuses))
        figure = f"{len(open_)} of {len(tries)} ({some or counts})"
        report.check("never a 2xx without a key", figure, not open_)
        errors = sum(status >= 500 for status in statuses)
        report.check("no refusal is an error of ours", f"{errors} of 5xx", not errors)
        _unread_bodies(report, running, routes)


def _guarded(running: Service) -> list[str]:
    """Paths that need a key: what the description names, and what it does not."""
    described = httpx.get(f"{running.url}/openapi.json", trust_env=False).json()["paths"]
    paths = {path.replace("{name}", "tiny-mpiqe") for path in described} - _PUBLIC
    return sorted(path for path in paths if "health" not in path)


def _served_with_the_key(running: Service) -> list[int]:
    headers = {"Authorization": f"Bearer {_KEY}"}
    form = raw.form(encoded())
    posted = raw.head("POST", "/score", len(form), headers) + form
    return [
        raw.status(running.url, posted),
        raw.status(running.url, raw.head("GET", "/models", 0, headers)),
    ]


def _tries(routes: list[str], methods: tuple[str, ...]) -> Iterator[_Try]:
    for route in routes:
        targets = [route + after for after in _AFTER]
        targets += [before + route[1:] for before in _BEFORE]
        targets += [f"http://drill{route}", route.upper(), route.replace("s", "%73"), route[1:]]
        for method, target in itertools.product(methods, targets):
            for headers in _KEYS if target == route or method == "POST" else _KEYS[:1]:
                yield _Try(method, target, headers)


def _status(running: Service, each: _Try) -> int:
    body = raw.form(encoded(), "images" if "batch" in each.target else "image")
    return raw.status(
        running.url, raw.head(each.method, each.target, len(body), each.headers) + body
    )


def _sorted(statuses: list[int]) -> list[tuple[int, int]]:
    return sorted(Counter(statuses).items())


def _unread_bodies(report: Report, running: Service, routes: list[str]) -> None:
    """A body of 1 TiB is refused by its announcement, key or not."""
    statuses = [
        raw.status(running.url, raw.head("POST", route + after, 1 << 40, headers))
        for route in routes
        for after in ("", "%0A", "/", "//")
        for headers in ({}, {"Authorization": f"Bearer {_KEY}"})
    ]
    waited = sum(status == 0 for status in statuses)
    report.check(
        "1 TiB is refused before it comes", f"{waited} of {len(statuses)} waited", not waited
    )


DRILL = Drill("doors", run, seconds=120, short_seconds=60)
