"""What several workers of one service serve together, of what one does.

    python -m benchmarks.scaling --only lanes [--lanes 1 2 4] [--seconds 5] [--rounds 1]

Each worker's forward sleeps 40 ms for one row, of which an image has two, so that no processor is
short but for what reads uploads, decodes and answers: what is measured is whether a worker ever
waits. A closed loop of 16 clients; calls of forward per second, and the part of the workers' time
in which they were at one. A machine that is busy with other things shows less than there is.
"""

import argparse
import concurrent.futures
import io
import statistics
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from benchmarks.drills import raw
from benchmarks.drills.shim import FOLDER
from benchmarks.drills.shim.sitecustomize import SLEEP_SECONDS, SLEEPS
from tests.app.server import Running, serving

SLEEP = 0.04
# All that a batch may hold.
_ROWS = 1
_MODEL = "tiny-mpiqe"


def picture() -> bytes:
    """A JPEG of the size of a crop, which costs little to decode."""
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize((224, 224)).convert("RGB").save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def throughput(service: Running, seconds: float, clients: int) -> tuple[float, float]:
    """Batches per second, and seconds of all workers at one per second."""
    end = time.monotonic() + seconds + 1
    # By hand: a client library would take more of the processors than the service does.
    form = raw.form(picture())
    request = raw.head("POST", "/score", len(form)) + form

    def work() -> None:
        with raw.connect(service.url) as connection, connection.makefile("rb") as answers:
            while time.monotonic() < end:
                connection.sendall(request)
                _read(answers)

    def counts() -> tuple[float, float, float]:
        batches = service.metric("agiqa_batch_requests_count")
        return time.monotonic(), batches, service.metric("agiqa_batch_inference_seconds_sum")

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        working = [pool.submit(work) for _ in range(clients)]
        time.sleep(0.5)  # until all are at it
        before = counts()
        time.sleep(seconds)
        after = counts()
        for client in working:
            client.result()
    passed, batches, slept = (b - a for a, b in zip(before, after, strict=True))
    return batches / passed, slept / passed


def _read(answers: BinaryIO) -> None:
    status, body = raw.answer(answers)
    if status != 200:
        raise RuntimeError(f"{status}: {body!r}")


def measure(folder: Path, lanes: int, seconds: float, clients: int) -> tuple[float, float]:
    """Batches per second of so many lanes, and the part of their time that they slept."""
    sleeps = folder / "sleeps"
    environment = {
        "AGIQA_MODELS": _MODEL,
        "AGIQA_WORKERS": str(lanes),
        "AGIQA_MAX_BATCH_ROWS": str(_ROWS),
        "AGIQA_DEADLINE_SECONDS": "3600",  # nobody is refused, however slow the start was
        "PYTHONPATH": str(FOLDER),
        SLEEPS: str(sleeps),
        SLEEP_SECONDS: str(SLEEP),
    }
    sleeps.unlink(missing_ok=True)
    with serving(folder, environment) as service:
        service.wait_until(lambda: service.metric("agiqa_worker_up", device="cpu") == lanes, 120)
        sleeps.touch()
        throughput(service, 1.0, clients)  # the rates get to know it
        rate, slept = throughput(service, seconds, clients)
        return rate, slept / lanes


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of the measurement."""
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=1)


def run(given: argparse.Namespace) -> None:
    """Prints a line for each number of lanes."""
    one = 0.0
    with tempfile.TemporaryDirectory() as name:
        for lanes in given.lanes:
            rounds = [
                measure(Path(name), lanes, given.seconds, given.clients)
                for _ in range(given.rounds)
            ]
            rate = statistics.median(rate for rate, _ in rounds)
            busy = statistics.median(busy for _, busy in rounds)
            one = one or rate / lanes
            print(
                f"{lanes} {'lane ' if lanes == 1 else 'lanes'} {rate:7.1f} calls/s, "
                f"{rate / one:.2f}x of one; busy {busy:.0%} of the time",
                flush=True,
            )
