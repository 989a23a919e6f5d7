"""An image that ends the process that works on it, among sixty neighbours: at most two kills, and
no innocent pays.
"""

import concurrent.futures
import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.drills import nginx, traffic
from benchmarks.drills.corpus.sample import encoded
from benchmarks.drills.frame import Drill, Report
from benchmarks.drills.service import Service, service
from benchmarks.drills.shim.sitecustomize import DECODER_MAGIC, DEVICE_MAGIC, KILLS

_SHIM = Path(__file__).parents[1] / "shim"
_NEIGHBOURS = 60
_NEIGHBOURS_SHORT = 24
_AGAIN = 3  # times that the same file is sent once more
_TIMEOUT = 110.0


def run(report: Report) -> None:
    count = _NEIGHBOURS_SHORT if report.short else _NEIGHBOURS
    _at_the_device(report, count)
    _at_a_decoder(report, count)
    if not report.short:
        _behind_nginx(report)


def _at_the_device(report: Report, count: int) -> None:
    with _poisoned(report.folder / "device") as (running, kills):
        subjects = _neighbours(running.url)
        answers, poison = _together(running.url, subjects, count, _device_poison())
        _judge(report, "one service", answers, poison, kills)
        later = [_post(running.url, _device_poison()) for _ in range(_AGAIN)]
        figure = f"{_count(kills)} kills; {traffic.statuses(later)}"
        report.check("the same file again kills nothing", figure, _count(kills) <= 2)


def _at_a_decoder(report: Report, count: int) -> None:
    with _poisoned(report.folder / "decoder") as (running, kills):
        if not running.pids("decoder"):
            report.check("a decoder's poison: one to two kills", "no decode process", holds=False)
            return
        answers, poison = _together(running.url, _neighbours(running.url), count, _decoder_poison())
        _judge_decoder(report, running, answers, poison, kills)


@contextmanager
def _poisoned(folder: Path) -> Iterator[tuple[Service, Path]]:
    """A service whose processes die of the magic images; the file gets a line per death."""
    kills = folder / "kills"
    environment = {
        "PYTHONPATH": str(_SHIM),
        KILLS: str(kills),
        # Large batches, and time enough for two loads: the poison alone is looked at.
        "AGIQA_MAX_BATCH_SECONDS": "2",
        "AGIQA_DEADLINE_SECONDS": "90",
    }
    with service(folder, environment) as running:
        yield running, kills


def _count(kills: Path) -> int:
    return len(kills.read_text().splitlines()) if kills.exists() else 0


def _device_poison() -> bytes:
    """One crop of one colour, which arrives at the network as it is."""
    return encoded(Image.new("RGB", (224, 224), DEVICE_MAGIC), "PNG")


def _decoder_poison() -> bytes:
    return encoded(Image.new("RGB", (224, 224)), "PNG") + DECODER_MAGIC


def _neighbours(url: str) -> list[traffic.Subject]:
    """Small images, each with its score."""
    waves = np.linspace(0, 9, 224)
    images = [np.outer(np.sin(waves * (i + 1)), np.cos(waves * i)) * 120 + 128 for i in range(6)]
    files = [encoded(Image.fromarray(i.astype(np.uint8)).convert("RGB"), "PNG") for i in images]
    return traffic.learn(url, [traffic.Subject("/score", data) for data in files])


def _post(url: str, data: bytes) -> traffic.Answer:
    return traffic.post(url, traffic.Subject("/score", data), timeout=_TIMEOUT)


def _together(
    url: str, subjects: Sequence[traffic.Subject], count: int, poison: bytes
) -> tuple[list[traffic.Answer], traffic.Answer]:
    """The neighbours' answers and the poison's, which is sent in their midst."""
    posts = list(itertools.islice(itertools.cycle(subjects), count))
    with concurrent.futures.ThreadPoolExecutor(count + 1) as pool:
        before = [pool.submit(traffic.post, url, s, timeout=_TIMEOUT) for s in posts[: count // 2]]
        bad = pool.submit(_post, url, poison)
        after = [pool.submit(traffic.post, url, s, timeout=_TIMEOUT) for s in posts[count // 2 :]]
        return [job.result() for job in (*before, *after)], bad.result()


def _judge(
    report: Report,
    where: str,
    answers: Sequence[traffic.Answer],
    poison: traffic.Answer,
    *kills: Path,
) -> None:
    died = sum(map(_count, kills))
    report.check(f"{where}: at most two kills, and one at least", died, 1 <= died <= 2)
    refused = [a for a in answers if a.status != 200]
    wrong = traffic.wrong(answers)
    figure = f"{traffic.statuses(answers)}; {wrong} wrong scores"
    report.check(f"{where}: no innocent is refused", figure, not refused and not wrong)
    figure = traffic.statuses([poison])
    report.check(f"{where}: the poison gets what is not retried", figure, poison.status == 422)


def _judge_decoder(
    report: Report,
    running: Service,
    answers: Sequence[traffic.Answer],
    poison: traffic.Answer,
    kills: Path,
) -> None:
    died = _count(kills)
    report.check("a decoder's poison: one to two kills", died, 1 <= died <= 2)
    figure = f"{traffic.statuses(answers)}; {traffic.wrong(answers)} wrong scores"
    innocent = all(a.status == 200 for a in answers) and not traffic.wrong(answers)
    report.check("a decoder's poison: no innocent is refused", figure, innocent)
    figure = traffic.statuses([poison])
    report.check("a decoder's poison gets 400", figure, poison.status in {400, 422})
    report.check("a decoder's poison: the service lives", running.pid, running.is_ready())


def _behind_nginx(report: Report) -> None:
    """Two replicas: what kills one must not be handed to the other."""
    if why := nginx.missing():
        report.unknown("two replicas: one to two kills, no innocent refused", why)
        return
    with ExitStack() as stack:
        places = [report.folder / f"replica-{i}" for i in range(2)]
        replicas = [stack.enter_context(_poisoned(place)) for place in places]
        services = [running for running, _ in replicas]
        url = stack.enter_context(nginx.before([s.url for s in services], report.folder / "nginx"))
        answers, poison = _together(url, _neighbours(url), _NEIGHBOURS, _device_poison())
        _judge(report, "two replicas", answers, poison, *(kills for _, kills in replicas))


DRILL = Drill("poison", run, seconds=200, short_seconds=80)
