"""An application on a port of its own, beside the server that its clients reach it by."""

import contextlib
import logging
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp

from app.startup.sockets import ListenError, listen

logger = logging.getLogger(__name__)

_PORTS = 100


async def serve_beside(app: ASGIApp, host: str, first: int) -> None:
    """Serves on the first port that is free from ``first`` on, until it is cancelled."""
    for port in range(first, first + _PORTS):
        with contextlib.suppress(ListenError):
            sockets = listen(host, port)
            config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
            await _WithoutSignals(config).serve(sockets)
            return
    logger.error("no free port from %d on: nobody sees the metrics of this replica", first)


class _WithoutSignals(uvicorn.Server):
    """A server that leaves the signals of the process to others."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Captures none."""
        yield
