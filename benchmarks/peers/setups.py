"""How a server uses the cores: what its processes read from the environment."""

import json
import os
from dataclasses import asdict, dataclass

CHECKPOINT = "tiny-clip-agiqa"
_VARIABLE = "PEERS_SETUP"


@dataclass(frozen=True)
class Setup:
    """Attributes:
    processes: that compute; 0: as many as the server chooses by itself.
    threads: of the network in each; 0: likewise.
    batch: most images in a call of the network.
    dtype: as ``model.load`` takes it.
    port: of the loopback that the server listens on.
    """

    processes: int = 1
    threads: int = 1
    batch: int = 1
    dtype: str = "auto"
    port: int = 8000

    @classmethod
    def from_environment(cls) -> "Setup":
        """What ``environment`` has put there."""
        return cls(**json.loads(os.environ.get(_VARIABLE, "{}")))

    def environment(self) -> dict[str, str]:
        """OpenMP's threads too, where they are chosen: some libraries start theirs early."""
        openmp = {"OMP_NUM_THREADS": str(self.threads)} if self.threads else {}
        return {_VARIABLE: json.dumps(asdict(self)), **openmp}

    @property
    def shape(self) -> str:
        """Processes x threads."""
        return f"{self.processes} x {self.threads}" if self.processes else "default"

    @property
    def label(self) -> str:
        """In words."""
        return f"{self.shape}, up to {self.batch} together" if self.batch > 1 else self.shape


def shapes(cores: int) -> list[tuple[int, int]]:
    """Processes and threads that fill the cores: one process on all, and one on each."""
    return list(dict.fromkeys([(1, cores), (cores, 1)]))
