"""Other servers around the same scorer, in turns with this one: LitServe, mosec, Ray Serve, plain
FastAPI; and the bare loop.

    python -m benchmarks.peers [--images 300] [--clients 16] [--rounds 3] [--dtype auto]
        [--only agiqa fastapi litserve mosec ray] [--batches 1 8] [--cores 2]
        [--folder build/peers]

Each server has the same checkpoint, decoder and files (noisy 512 x 512 JPEGs), answers the quality
alone, and runs as one process on all cores and as one on each; those that batch, with each size of
``--batches``. The bare loop has several numbers of images in a call, too. The first run installs
the rivals, each into a venv of its own in ``--folder``; table (JSON) and plot (SVG) go there.
It takes half a minute for each server, set-up and round; the machine should do nothing else.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers import plot, report
from benchmarks.peers.bare import Loop, Loops
from benchmarks.peers.contest import Contest, run_module
from benchmarks.peers.entrants import SERVERS, Server, entrants
from benchmarks.peers.environments import NotMeasured, interpreter
from benchmarks.peers.setups import shapes
from benchmarks.service import make_files
from model.resources import usable_cores
from reporting.text import counted


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table; writes it and the plot."""
    options = _options(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    outcome = report.Outcome()
    pythons = _pythons(options, outcome)
    with tempfile.TemporaryDirectory() as name:
        make_files(Path(name), options.images)
        for number in range(options.rounds):
            _note(f"round {number + 1} of {options.rounds}")
            _round(options, Path(name), pythons, outcome)
    _write(options, outcome)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=300, help="measured of each set-up")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--only", nargs="+", choices=list(SERVERS), default=list(SERVERS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--cores", type=int, default=usable_cores(), help="to share out")
    parser.add_argument("--folder", type=Path, default=Path("build/peers"))
    return parser.parse_args(arguments)


def _pythons(options: argparse.Namespace, outcome: report.Outcome) -> dict[Server, Path]:
    """The interpreter of each server; those that can't be installed are noted."""
    found = {}
    for name in options.only:
        server = SERVERS[name]
        try:
            found[server] = interpreter(options.folder.absolute() / name, server.requirement)
        except NotMeasured as error:
            outcome.missing[server.name] = str(error)
    return found


def _round(
    options: argparse.Namespace, files: Path, pythons: dict[Server, Path], outcome: report.Outcome
) -> None:
    for processes, threads in shapes(options.cores):
        _note(f"  the bare loop, {processes} x {threads}")
        loops = _bare(files, processes, threads, options.dtype)
        outcome.bare.setdefault((processes, threads), []).append(loops)
    log = options.folder / "server.log"
    contest = Contest(files, log, options.clients, options.images, loops.qualities)
    for entrant in entrants(list(pythons), options.cores, options.batches, options.dtype):
        label = f"{entrant.server.name}, {entrant.setup.label}"
        if label in outcome.missing:
            continue
        _note(f"  {label}")
        try:
            seen = contest.measure(entrant, pythons[entrant.server])
            outcome.seen.setdefault(entrant, []).append(seen)
        except NotMeasured as error:
            outcome.missing[label] = str(error)
            outcome.seen.pop(entrant, None)


def _bare(files: Path, processes: int, threads: int, dtype: str) -> Loops:
    options = [f"--processes={processes}", f"--threads={threads}", f"--dtype={dtype}"]
    found = run_module("bare", str(files), *options)
    return Loops(**found | {"loops": [Loop(**loop) for loop in found["loops"]]})


def _write(options: argparse.Namespace, outcome: report.Outcome) -> None:
    machine = report.machine(next(iter(outcome.bare.values()))[0].precision)
    rounds = counted(options.rounds, "round")
    load = f"{options.clients} clients, {rounds} of {options.images} images"
    print(f"{report.markdown(outcome, machine)}\n\n{load}")
    document = report.document(outcome, machine) | {"load": load}
    (options.folder / "peers.json").write_text(json.dumps(document, indent=1) + "\n")
    if outcome.seen:
        caption = "{cpu}, {cores} cores, {precision}".format(**machine) + f"; {load}"
        drawn = plot.svg(outcome.rows, outcome.most, caption)
        (options.folder / "peers.svg").write_bytes(drawn)


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    # Whoever ends this by a signal means the server, too, that runs.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    main()
