"""The loads of the drills: a closed loop, whose images per second are the capacity, and an open one
at a multiple of it, each in a process of its own.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.drills.aside import Aside
from benchmarks.drills.load.burner import burn, cores
from benchmarks.drills.load.figures import Figures
from benchmarks.drills.load.generator import GRACE_SECONDS, Sent, Stream, generate
from benchmarks.drills.load.mix import Mix

CLIENTS = 16
# The service learns what its batches take, the generator opens its connections.
WARM_SECONDS = 2.0
DEADLINE = 10.0
# The fastest that the machine has, unless whoever starts the drills chose.
DTYPE = os.environ.get("AGIQA_DTYPE", "auto")
# Workers and threads as they are chosen at the start, and the fastest type: as whoever starts it
# gets it.
AS_SHIPPED = {
    "AGIQA_THREADS": os.environ.get("AGIQA_THREADS", ""),
    "AGIQA_WORKERS": os.environ.get("AGIQA_WORKERS", ""),
    "AGIQA_DTYPE": DTYPE,
    "AGIQA_DEADLINE_SECONDS": f"{DEADLINE:g}",
}
# Nobody waits longer for the end of a load; counts are the same.
_SHORT_DEADLINE = {"AGIQA_DEADLINE_SECONDS": "4"}
_SPARE = 60.0
NAME = "load"


def environment(*, short: bool) -> Mapping[str, str]:
    """Of the service."""
    return AS_SHIPPED | (_SHORT_DEADLINE if short else {})


@dataclass(frozen=True)
class Loaded:
    """A load that has been, and its figures."""

    sent: Sent
    figures: Figures

    @property
    def generator_share(self) -> float:
        """Of one core, that the generator used."""
        return self.sent.cpu / self.sent.seconds

    @property
    def cores(self) -> str:
        """The generator's share of all cores, for a reader."""
        return f"{self.generator_share / cores():.1%} of the cores"


def load(url: str, streams: Sequence[Stream], seconds: float, watch: Sequence[int] = ()) -> Sent:
    """Sends the streams and waits for their end."""
    with Aside(generate, url, tuple(streams), seconds, tuple(watch)) as aside:
        return aside.wait(seconds + 2 * GRACE_SECONDS + _SPARE)


def closed(
    url: str,
    mix: Mix,
    seconds: float,
    *,
    burning: float = 0.0,
    watch: Sequence[int] = (),
    clients: int = CLIENTS,
) -> Loaded:
    """Clients that wait for their answers; ``burning``: a share of a core that a process beside
    them uses.
    """
    streams = [Stream(NAME, mix, clients=clients)]
    total = seconds + WARM_SECONDS
    if burning > 0:
        with Aside(burn, burning):
            sent = load(url, streams, total, watch)
    else:
        sent = load(url, streams, total, watch)
    return Loaded(sent, Figures.of(sent, NAME, warm=WARM_SECONDS, deadline=DEADLINE))


def opened(
    url: str,
    mix: Mix,
    rate: float,
    seconds: float,
    *,
    watch: Sequence[int] = (),
    come_back: int = 0,
) -> Loaded:
    """``rate`` requests per second, whatever becomes of them."""
    streams = [Stream(NAME, mix, rate, come_back=come_back)]
    sent = load(url, streams, seconds + WARM_SECONDS, watch)
    return Loaded(sent, Figures.of(sent, NAME, warm=WARM_SECONDS, deadline=DEADLINE))
