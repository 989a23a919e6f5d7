"""Where the time of an image goes: alone, and among the images of 16 clients.

    python -m benchmarks.stages [--images 96] [--clients 16] [--plot docs/images]

The service as it ships, noisy 512 x 512 JPEGs, `POST /score`. Prints the mean milliseconds of each
stage, as `Server-Timing` has them, and what is left of the client's own; then what of the cores
each of the service's processes used per image. Stages overlap with those of other images, so among
many the most is waiting for its turn.
"""

import argparse
import concurrent.futures
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import httpx

from benchmarks.drills import processes
from benchmarks.drills.load.loads import AS_SHIPPED
from benchmarks.drills.service import service
from benchmarks.service import make_files
from reporting import charts

STAGES = ("read", "decode", "queue", "inference", "reduce", "other")
_LONE = 40
_WIDTH, _NAMES, _BAR, _STEP = 620, 90, 26, 58
_STYLE = """
.ground { fill: #fbfbf9; }
text { fill: #585d63; font-family: system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
.read { fill: #c7ccd1; } .decode { fill: #d9a441; } .queue { fill: #b7c9d8; }
.inference { fill: #0a5f9e; } .reduce { fill: #6c8f3c; } .other { fill: #9aa3ab; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #15171a; }
  text { fill: #a5abb2; }
  .read { fill: #4a5158; } .queue { fill: #2f4a60; } .inference { fill: #74bdf2; }
}
"""


def timed(client: httpx.Client, file: Path) -> dict[str, float]:
    """Milliseconds of a request by stage."""
    data = file.read_bytes()
    start = time.perf_counter()
    answer = client.post("/score", files={"image": data})
    whole = 1e3 * (time.perf_counter() - start)
    answer.raise_for_status()
    found = stages_of(answer.headers["server-timing"])
    return found | {"other": max(0.0, whole - sum(found.values()))}


def stages_of(header: str) -> dict[str, float]:
    """Milliseconds by stage of a `Server-Timing`, which may have more to say of one."""
    found = {}
    for each in header.split(", "):
        name, *parameters = each.split(";")
        values = dict(parameter.split("=", 1) for parameter in parameters)
        found[name] = float(values["dur"])
    return found


def mean(timings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each stage."""
    return {stage: statistics.fmean(t.get(stage, 0.0) for t in timings) for stage in STAGES}


def crowd(url: str, files: Sequence[Path], clients: int) -> list[dict[str, float]]:
    """The timings of clients that each send the next image when they have the answer."""

    def work(share: Sequence[Path]) -> list[dict[str, float]]:
        with httpx.Client(base_url=url, timeout=60) as client:
            return [timed(client, file) for file in share]

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        shares = pool.map(work, [files[i::clients] for i in range(clients)])
        return [found for share in shares for found in share]


def svg(bars: Mapping[str, Mapping[str, float]]) -> bytes:
    """A bar for each, as long as the others: the stages' shares, with their milliseconds."""
    shapes = []
    for row, (name, found) in enumerate(bars.items()):
        top, left, whole = 20 + _STEP * row, float(_NAMES), sum(found.values())
        shapes.append(_text(0, top + 18, name))
        shapes.append(_text(_NAMES + _WIDTH + 8, top + 18, f"{whole:.0f} ms"))
        for stage in STAGES:
            width = _WIDTH * found[stage] / whole
            place = f'x="{left:.1f}" y="{top}" width="{width:.1f}" height="{_BAR}"'
            title = f"<title>{stage}: {found[stage]:.1f} ms</title>"
            shapes.append(f'<rect class="{stage}" {place}>{title}</rect>')
            if width > 60:
                label = f"{stage} {found[stage]:.1f}"
                shapes.append(_text(left, top + _BAR + 15, label))
            left += width
    box = f"-8 0 {_NAMES + _WIDTH + 80} {20 + _STEP * len(bars)}"
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-size="12">'
    return charts.standalone("\n".join([opening, *shapes, "</svg>"]).encode(), _STYLE)


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _used(pid: int) -> dict[str, float]:
    """Seconds of the cores by the role of a process of the service."""
    used: dict[str, float] = defaultdict(float)
    for each in processes.tree(pid):
        used["api" if each == pid else processes.role(each)] += processes.cpu_seconds(each)
    return used


def main() -> None:
    """Prints both tables, and draws the bars."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--plot", type=Path, help="the folder for stages.svg")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        files = make_files(Path(name), given.images)
        with service(Path(name), AS_SHIPPED) as running:
            crowd(running.url, files[: 2 * given.clients], given.clients)  # it learns its rates
            with httpx.Client(base_url=running.url, timeout=60) as client:
                alone = [timed(client, file) for file in files[:_LONE]]
            before = _used(running.pid)
            many = crowd(running.url, files, given.clients)
            used = _used(running.pid)
    bars = {"alone": mean(alone), f"{given.clients} clients": mean(many)}
    print(f"{'ms':12}" + "".join(f"{stage:>10}" for stage in (*STAGES, "whole")))
    for label, found in bars.items():
        values = (*found.values(), sum(found.values()))
        print(f"{label:12}" + "".join(f"{value:10.1f}" for value in values))
    shares = {role: 1e3 * (used[role] - before[role]) / len(files) for role in sorted(used)}
    shown = ", ".join(f"{role} {value:.1f}" for role, value in shares.items() if value >= 0.05)
    print(f"ms of a core per image among {given.clients} clients: {shown}")
    if given.plot:
        (given.plot / "stages.svg").write_bytes(svg(bars))


if __name__ == "__main__":
    main()
