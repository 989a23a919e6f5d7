"""A greedy key beside a modest one: whoever asks for less than its share gets all of it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from benchmarks.drills.frame import Drill, Report
from benchmarks.drills.load import judge
from benchmarks.drills.load.figures import Figures
from benchmarks.drills.load.generator import Stream
from benchmarks.drills.load.loads import DEADLINE, WARM_SECONDS, closed, environment, load
from benchmarks.drills.load.mix import Mix, photographs
from benchmarks.drills.service import service

_KEYS = ("greedy", "modest")
# Of the capacity; each key's share is half.
_GREEDY = 3.0
_MODEST = 0.4
_SERVED = 0.95


def run(report: Report) -> None:
    seconds = 6.0 if report.short else 25.0
    file = {"AGIQA_KEYS_FILE": str(_key_file(report.folder))}
    settings = {**environment(short=report.short), **file}
    with service(report.folder / "service", settings) as running:
        capacity = closed(running.url, _mix("greedy"), seconds / 2).figures.goodput
        report.check("the capacity", f"{capacity:.1f} images/s", capacity > 0)
        if capacity <= 0:
            return
        streams = [
            Stream("greedy", _mix("greedy"), _GREEDY * capacity),
            Stream("modest", _mix("modest"), _MODEST * capacity),
        ]
        sent = load(running.url, streams, seconds + WARM_SECONDS)
    found = {name: Figures.of(sent, name, warm=WARM_SECONDS, deadline=DEADLINE) for name in _KEYS}
    for name, figures in found.items():
        judge.answers(report, name, sent, figures)
    modest = found["modest"]
    share = len(modest.served) / max(1, len(modest.exchanges))
    report.timing("the modest key is served", f"{share:.0%}; {modest}", share >= _SERVED)
    total = sum(figures.goodput for figures in found.values())
    figure = f"{total:.1f} of {capacity:.1f} images/s"
    report.timing(
        "both together get 90 % of the capacity", figure, total >= judge.GOODPUT * capacity
    )


def _mix(name: str) -> Mix:
    return Mix("/score", photographs(), headers=_authorization(name))


def _authorization(name: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {name}-key"}


def _key_file(folder: Path) -> Path:
    """Both keys, of equal weight."""
    file = folder / "keys.toml"
    entries = [(name, hashlib.sha256(f"{name}-key".encode()).hexdigest()) for name in _KEYS]
    file.write_text("".join(f'[[keys]]\nname = "{n}"\nsha256 = "{h}"\n' for n, h in entries))
    return file


DRILL = Drill("keys", run, seconds=120, short_seconds=75)
