"""How many requests per second one API process carries, and what it spends its time on.

    python -m benchmarks.api [--decoders 1 2 4] [--seconds 5] [--side 512] [--clients 24]

The lanes sleep 5 ms for a batch of whatever size, so that no network takes the cores; a closed loop
of clients sends JPEGs of that side, in a form and as the whole body. Where clients, decoders and
API process share a few cores, requests per second are those of the machine: what one API process
carries is a second divided by what it uses of a core for a request. How late the event loop is
comes with and without the time in which its thread waited for a core.
"""

import argparse
import concurrent.futures
import io
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from benchmarks.drills import raw
from benchmarks.drills.shim import FOLDER
from benchmarks.drills.shim.sitecustomize import SLEEP_SECONDS, SLEEPS
from tests.app.server import Running, serving

SLEEP = 0.005
LANES = 2
_MODULE = ("benchmarks.api.watched",)


@dataclass(frozen=True)
class Load:
    """A request that is sent over and over, and the status of its answer."""

    name: str
    request: bytes
    status: int = 200


@dataclass(frozen=True)
class Seen:
    """What a load has shown.

    Attributes:
        answers: of the clients, in ``seconds``.
        thread: seconds of a core that the event loop used, ``process`` with the other threads.
        decoding: seconds of a core that the decoders used.
        late: seconds, of each tick of the event loop; ``own``: less what the thread waited for a
            core.
        places: seconds of the event loop by what it was at.
    """

    answers: int
    seconds: float
    thread: float
    process: float
    decoding: float
    late: list[float]
    own: list[float]
    places: dict[str, float]

    @property
    def cost(self) -> float:
        """Seconds of a core that the API process uses for a request."""
        return self.process / self.answers

    def lines(self) -> Iterator[str]:
        """For people."""
        yield (
            f"{self.answers / self.seconds:6.0f} requests/s; of a core {self.cost * 1e3:.2f} ms "
            f"each (event loop {self.thread / self.answers * 1e3:.2f}), decoders "
            f"{self.decoding / self.answers * 1e3:.2f}: one process carries {1 / self.cost:.0f}/s"
        )
        late, own = (_percentiles(values) for values in (self.late, self.own))
        yield f"       event loop late by {late}; less waiting for a core {own}"

    def shares(self) -> str:
        """Of the event loop's time."""
        whole = sum(self.places.values())
        parts = sorted(self.places.items(), key=lambda item: -item[1])
        return ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in parts)


def _percentiles(values: Sequence[float]) -> str:
    cuts = statistics.quantiles(values, n=100)
    return f"p50 {cuts[49] * 1e3:.1f}, p99 {cuts[98] * 1e3:.1f}, most {max(values) * 1e3:.1f} ms"


def picture(side: int) -> bytes:
    """A noisy JPEG: as heavy to decode as a photograph."""
    small = np.random.default_rng(0).integers(0, 256, (side // 8, side // 8, 3), np.uint8)
    buffer = io.BytesIO()
    image = Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def loads(image: bytes) -> list[Load]:
    """From the one that costs least: each adds a part of the way. What is refused is read, in full,
    and nothing else.
    """
    no_image = b"no image".ljust(len(image))
    kind = {"Content-Type": "image/jpeg"}
    raw_head = raw.head("POST", "/score", len(image), kind)
    return [
        Load("GET /livez", raw.head("GET", "/livez")),
        Load("no image, raw", raw_head + no_image, 415),
        Load("no image, form", _form(no_image), 415),
        Load("image, raw", raw_head + image),
        Load("image, form", _form(image)),
    ]


def _form(image: bytes) -> bytes:
    body = raw.form(image)
    return raw.head("POST", "/score", len(body)) + body


@contextmanager
def watched(folder: Path, decoders: int) -> Iterator[Running]:
    """The service whose lanes sleep, with a watch on its event loop."""
    sleeps = folder / "sleeps"
    environment = {
        "AGIQA_MODELS": "tiny-clip-agiqa",
        "AGIQA_WORKERS": str(LANES),
        "AGIQA_DECODE_WORKERS": str(decoders),
        "AGIQA_DEADLINE_SECONDS": "3600",  # nobody is refused, however slow the start was
        "AGIQA_MAX_CROP_MIB": "256",
        "AGIQA_LOG_LEVEL": "warning",
        "PYTHONPATH": str(FOLDER),
        SLEEPS: str(sleeps),
        SLEEP_SECONDS: str(SLEEP),
    }
    sleeps.unlink(missing_ok=True)
    with serving(folder, environment, module=_MODULE) as service:
        service.wait_until(lambda: service.metric("agiqa_worker_up", device="cpu") == LANES, 120)
        sleeps.touch()
        yield service


def measure(service: Running, load: Load, seconds: float, clients: int) -> Seen:
    """What the service shows under so many clients, after a second of the same."""
    counts = [0] * clients
    end = time.monotonic() + seconds + 2

    def work(number: int) -> None:
        with raw.connect(service.url) as connection, connection.makefile("rb") as answers:
            while time.monotonic() < end:
                connection.sendall(load.request)
                _read(answers, load.status)
                counts[number] += 1

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        working = [pool.submit(work, number) for number in range(clients)]
        time.sleep(1.0)
        service.client.post("/watch").raise_for_status()
        before, decoded = sum(counts), _used(service.decoder_pids)
        time.sleep(seconds)
        report = service.client.post("/watch").json()
        answers, decoding = sum(counts) - before, _used(service.decoder_pids) - decoded
        for client in working:
            client.result()
    samples = report["samples"]
    return Seen(
        answers=answers,
        seconds=report["seconds"],
        thread=report["thread"],
        process=report["process"],
        decoding=decoding,
        late=[late for late, _ in samples],
        own=[max(0.0, late - waited) for late, waited in samples],
        places=report["places"],
    )


def _used(pids: Sequence[int]) -> float:
    """Seconds of a core so far."""
    ticks = 0
    for pid in pids:
        # Behind the name, which may hold anything; user and system are fields 14 and 15.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _read(answers: BinaryIO, wanted: int) -> None:
    status, body = raw.answer(answers)
    if status != wanted:
        raise RuntimeError(f"{status}, not {wanted}: {body!r}")


def _steps(costs: Sequence[tuple[str, float]]) -> Iterator[str]:
    """What each part of the way costs, of what an image in a form does."""
    known = dict(costs)
    livez, none, none_in_form, image, in_form = known.values()
    parts = {
        "HTTP, with the parts around every request": livez,
        "the upload read, looked at and refused": none - livez,
        "the form around it": (none_in_form - none + in_form - image) / 2,
        "the way of an image, and its answer": image - none,
    }
    for name, cost in parts.items():
        yield f"  {cost * 1e3:5.2f} ms, {cost / in_form:4.0%}: {name}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a block for each number of decoders, and for the last of them what parts cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decoders", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--clients", type=int, default=24)
    given = parser.parse_args(arguments)
    image = picture(given.side)
    print(f"{given.side} x {given.side}, {len(image) / 1000:.0f} kB; {given.clients} clients")
    *_, scored_raw, scored = loads(image)
    with tempfile.TemporaryDirectory() as name:
        for decoders in given.decoders:
            is_last = decoders == given.decoders[-1]
            with watched(Path(name), decoders) as service:
                print(f"\n{decoders} decoders; load {os.getloadavg()[0]:.1f}, {_cores()} cores")
                _block(service, loads(image) if is_last else [scored_raw, scored], given)


def _block(service: Running, sent: Sequence[Load], given: argparse.Namespace) -> None:
    costs = []
    for load in sent:
        seen = measure(service, load, given.seconds, given.clients)
        costs.append((load.name, seen.cost))
        for label, line in zip((f"{load.name:15}", " " * 15), seen.lines(), strict=True):
            print(f"  {label} {line}", flush=True)
    print(f"  of the event loop's time: {seen.shares()}")
    if len(sent) > 2:
        print("\n".join(["", "of a request with an image in a form:", *_steps(costs)]))


def _cores() -> int:
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    main()
