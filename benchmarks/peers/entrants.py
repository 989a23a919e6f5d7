"""Who takes part, in which set-ups."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.peers.setups import CHECKPOINT, Setup, shapes


@dataclass(frozen=True)
class Server:
    """Attributes:
    name: as the table has it.
    module: that serves.
    requirement: what pip installs, at the version that is measured; empty: agiqa's own will do.
    path: of the call that scores an image.
    form: whether it reads multipart/form-data alone.
    batches: whether it takes the most requests that it puts together.
    """

    name: str
    module: tuple[str, ...]
    requirement: str = ""
    path: str = "/score"
    form: bool = False
    batches: bool = True


def _module(name: str) -> tuple[str, ...]:
    return (f"benchmarks.peers.{name}",)


SERVERS = {
    "agiqa": Server(
        f"agiqa {importlib.metadata.version('agiqa')}", ("app.cli.main", "serve"), batches=False
    ),
    "fastapi": Server(
        f"FastAPI {importlib.metadata.version('fastapi')}", _module("on_fastapi"), batches=False
    ),
    "litserve": Server(
        "LitServe 0.2.19",
        _module("on_litserve"),
        "litserve==0.2.19",
        path="/predict",
        form=True,
    ),
    "mosec": Server("mosec 0.9.8", _module("on_mosec"), "mosec==0.9.8", path="/inference"),
    "ray": Server("Ray Serve 2.60.0", _module("on_ray"), "ray[serve]==2.60.0"),
}


@dataclass(frozen=True)
class Entrant:
    """A server in a set-up."""

    server: Server
    setup: Setup

    def environment(self) -> dict[str, str]:
        """What its processes read."""
        setup = self.setup
        own = {"AGIQA_WORKERS": setup.processes, "AGIQA_THREADS": setup.threads}
        return {
            **setup.environment(),
            "AGIQA_MODELS": CHECKPOINT,
            "AGIQA_DEVICE": "cpu",
            "AGIQA_DTYPE": setup.dtype,
            "AGIQA_PORT": str(setup.port),
            "AGIQA_LOG_LEVEL": "warning",
            **{name: str(value) for name, value in own.items() if value},
        }


def entrants(
    servers: Sequence[Server], cores: int, batches: Sequence[int], dtype: str
) -> list[Entrant]:
    """Each server with one process on all cores and with one on each, with each size of batch where
    it takes one; agiqa also as it starts by itself.
    """
    found = []
    for server in servers:
        setups = [Setup(0, 0, dtype=dtype)] if server is SERVERS["agiqa"] else []
        for processes, threads in shapes(cores):
            sizes = batches if server.batches else (1,)
            setups += [Setup(processes, threads, size, dtype) for size in sizes]
        found += [Entrant(server, setup) for setup in setups]
    return found
