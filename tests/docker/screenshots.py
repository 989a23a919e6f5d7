"""Draws docs/images/prometheus-*.png: the dashboard's own queries in Prometheus' graphs, over a
real run of the service.

    python -m tests.docker.screenshots [--scale 1.0] [--out docs/images]

The run takes eight minutes: silence, light load, far too much load, a worker that is killed, images
that turn bad, faulty requests. Needs Debian's prometheus and chromium, and playwright.
"""

import argparse
import contextlib
import io
import logging
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from benchmarks.load import FAULTY, Load
from tests.app.server import Running, serving

from .dockerfile import ROOT
from .monitoring import dashboard_queries, filled
from .scraping import Prometheus, scraping

logger = logging.getLogger(__name__)

# File -> panels and letters of the dashboard; stacked as there.
SHOTS = {
    "prometheus-up.png": [("Requests by status A", True), ("Failures by reason A", True)],
    "prometheus-fast.png": [("p95 by endpoint A", False), ("Mean time by stage A", True)],
    "prometheus-full.png": [("Device busy, by device A", False), ("Refused with 429 A", False)],
    "prometheus-right.png": [
        ("Mean score, by model and head A", False),
        ("Poor and excellent images A", False),
    ],
    "prometheus-cost.png": [
        ("Images per second A", True),
        ("Device time of 1000 images, by device A", False),
    ],
}
GOOD = ("photograph", "generated", "prompted", "batch")
WIDTH = 1100
# Leaves of Prometheus' page the query, the graph and its legend.
_STYLE = """
    .graph_wrapper { margin: 0; padding: 8px 4px 0; }
    .graph_wrapper .form-inline, .graph_wrapper .nav-tabs, .eval_stats, .text-right,
    .prometheus_input_group, .spinner { display: none !important; }
    .expression_input { border: 0; padding: 4px 8px; box-shadow: none !important; resize: none; }
    .tab-pane { border: 0 !important; }
    .graph { min-height: 230px !important; height: 230px; }
"""
_INSERT = f"""addEventListener("DOMContentLoaded", () => {{
    const style = document.createElement("style");
    style.textContent = `{_STYLE}`;
    document.head.append(style);
}})"""
_WHOLE_QUERY = """for (const field of document.querySelectorAll(".expression_input")) {
    field.style.height = `${field.scrollHeight + 2}px`;
}"""
# Graphs of some minutes need a shorter look back than the dashboard's 30 minutes.
LOOK_BACK = {"__rate_interval": "20s", "window": "1m"}


def phases(url: str, scale: float) -> Iterator[tuple[str, Callable[[], Counter[tuple[str, int]]]]]:
    """What happens, in order; a minute each at scale 1, silence apart."""
    minute = 60 * scale

    def load(clients: int, degraded: float = 0.0, kinds: tuple[str, ...] = GOOD) -> Load:
        return Load(url, minute, clients, degraded, kinds)

    def silence() -> Counter[tuple[str, int]]:
        time.sleep(minute / 2)
        return Counter()

    yield "silence", silence
    yield "two clients", load(2).run
    yield "32 clients", load(32).run
    yield "two clients again", load(2).run
    yield "the worker is killed", load(2).run
    yield "images turn bad", load(2, degraded=0.9).run
    yield "bad images go on", load(2, degraded=0.9).run
    yield "faulty requests", load(2, kinds=(*GOOD, *FAULTY)).run
    yield "silence", silence


def follow(service: Running, scale: float) -> None:
    """Runs all phases and tells what came back."""
    for name, work in phases(service.url, scale):
        if "killed" in name:
            (pid,) = service.worker_pids
            threading.Timer(10 * scale, os.kill, (pid, signal.SIGKILL)).start()
        statuses: Counter[int] = Counter()
        for (_, status), count in work().items():
            statuses[status] += count
        logger.info("%-20s %s", name, dict(sorted(statuses.items())))


def graph_url(prometheus: Prometheus, shown: list[tuple[str, bool]], seconds: float) -> str:
    """Address of Prometheus' page with these panels' queries."""
    parameters: dict[str, str] = {}
    for number, (panel, stacked) in enumerate(shown):
        parameters |= {
            f"g{number}.expr": filled(dashboard_queries()[panel], **LOOK_BACK),
            f"g{number}.tab": "0",
            f"g{number}.stacked": str(int(stacked)),
            f"g{number}.range_input": f"{round(seconds)}s",
            f"g{number}.step_input": str(max(1, round(seconds / 240))),
        }
    return f"{prometheus.url}/classic/graph?{urlencode(parameters)}"


def photographed(page: Page, url: str) -> Image.Image:
    """The graphs of Prometheus' page, one above the other, without the forms around them."""
    page.goto(url)
    page.wait_for_function("""() => [...document.querySelectorAll(".graph_wrapper")]
        .every(one => one.querySelector(".graph svg path") && one.querySelector(".legend li"))""")
    page.evaluate(_WHOLE_QUERY)
    graphs = page.query_selector_all(".graph_wrapper")
    parts = [Image.open(io.BytesIO(one.screenshot())) for one in graphs]
    whole = Image.new("RGB", (max(p.width for p in parts), sum(p.height for p in parts)), "white")
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    return whole


def main() -> None:
    """Runs the service, watches it and takes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of the run's eight minutes")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/images")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    models = {"AGIQA_MODELS": "tiny-mpiqe,tiny-clip-agiqa"}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        service = stack.enter_context(serving(folder, models))
        target = service.url.removeprefix("http://")
        prometheus = stack.enter_context(scraping(folder, target, "2s"))
        start = time.monotonic()
        follow(service, given.scale)
        seconds = time.monotonic() - start
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": 1400})
        page.add_init_script(_INSERT)
        given.out.mkdir(parents=True, exist_ok=True)
        for name, shown in SHOTS.items():
            picture = photographed(page, graph_url(prometheus, shown, seconds))
            picture.quantize(64).save(given.out / name, optimize=True)
            logger.info("%s %.0f kB", name, (given.out / name).stat().st_size / 1024)
        browser.close()


if __name__ == "__main__":
    main()
