"""mosec: its batching, its workers; the bytes of an upload go to the worker as they are."""

import os
from typing import Any

from mosec import Server, Worker

from benchmarks.peers.scoring import Cropped, cropped, load, qualities
from benchmarks.peers.setups import Setup

SETUP = Setup.from_environment()
_WAIT_MILLISECONDS = 5
_TIMEOUT_MILLISECONDS = 60_000


class Quality(Worker):  # type: ignore[misc]
    """Decodes, computes, and answers JSON, as mosec does by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.scorer = load(SETUP)

    def deserialize(self, data: bytes) -> Cropped:
        return cropped(self.scorer, data)

    def forward(self, data: Any) -> Any:
        """Of one image where there are no batches, else of a list of them."""
        if SETUP.batch == 1:
            return {"quality": qualities(self.scorer, [data])[0]}
        return [{"quality": quality} for quality in qualities(self.scorer, data)]


if __name__ == "__main__":
    os.environ["MOSEC_ADDRESS"] = "127.0.0.1"
    os.environ["MOSEC_PORT"] = str(SETUP.port)
    os.environ["MOSEC_TIMEOUT"] = str(_TIMEOUT_MILLISECONDS)
    server = Server()
    server.append_worker(
        Quality,
        num=SETUP.processes,
        max_batch_size=SETUP.batch,
        max_wait_time=_WAIT_MILLISECONDS,
    )
    server.run()
