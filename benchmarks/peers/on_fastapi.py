"""Plain FastAPI: one image per call of the network, in a thread beside the event loop, so that
uploads are read meanwhile; uvicorn's worker processes.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request

from benchmarks.peers.scoring import load, scored
from benchmarks.peers.setups import Setup

SETUP = Setup.from_environment()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.scorer = load(SETUP)
    # More threads would compute several images at once, on the same cores.
    with ThreadPoolExecutor(max_workers=1) as app.state.pool:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/score")
async def score(request: Request) -> dict[str, float]:
    upload = await request.body()
    state, loop = request.app.state, asyncio.get_running_loop()
    (quality,) = await loop.run_in_executor(state.pool, scored, state.scorer, [upload])
    return {"quality": quality}


if __name__ == "__main__":
    uvicorn.run(
        "benchmarks.peers.on_fastapi:app",
        port=SETUP.port,
        workers=SETUP.processes,
        access_log=False,
    )
