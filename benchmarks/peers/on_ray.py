"""Ray Serve: its batching, its replicas; the network computes in a thread beside a replica's event
loop.
"""

import asyncio

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.scoring import load, scored
from benchmarks.peers.setups import Setup

SETUP = Setup.from_environment()
_WAIT_SECONDS = 0.005 if SETUP.batch > 1 else 0.0
# Requests that may be at a replica, those included that wait for their batch.
_ONGOING = 100


class Quality:
    """One image per call, or several."""

    def __init__(self) -> None:
        self.scorer = load(SETUP)

    @serve.batch(max_batch_size=SETUP.batch, batch_wait_timeout_s=_WAIT_SECONDS)  # type: ignore[untyped-decorator]
    async def score(self, uploads: list[bytes]) -> list[float]:
        return await asyncio.to_thread(scored, self.scorer, uploads)

    async def __call__(self, request: Request) -> dict[str, float]:
        return {"quality": await self.score(await request.body())}


if __name__ == "__main__":
    ray.init(num_cpus=SETUP.processes, include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": SETUP.port})
    deployment = serve.deployment(
        num_replicas=SETUP.processes,
        max_ongoing_requests=_ONGOING,
        logging_config={"enable_access_log": False},
    )
    serve.run(deployment(Quality).bind(), route_prefix="/score", blocking=True)
