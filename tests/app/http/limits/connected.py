"""A server with limits on connections of this machine, for tests."""

import asyncio
import contextlib
import functools
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import uvicorn
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from app.http.limits.connections import Connections
from app.http.limits.gathering import Gathering
from app.http.limits.protocol import CROWDED, LimitedProtocol
from tests.app.fake_device import until

PATIENCE = 30.0
MOMENT = 0.05
LONG = 600.0
ASK = b"GET /quick HTTP/1.1\r\nHost: here\r\n\r\n"


class ClosedDoor:
    """Refuses each, until it is opened."""

    paths = frozenset({b"/a"})

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_open = False
        self.is_refusing = False

    def refusal(self, scope: Scope) -> Response | None:
        self.asked.append(scope["method"] + " " + scope["path"])
        return None if self.is_open else PlainTextResponse("not now", 429)


@dataclass
class Served:
    """A server whose application answers at once, with much, when it is released, or when it has
    read the body, the sizes of whose pieces it notes.
    """

    limits: Connections
    closed: "Counter[str]"
    port: int = 0
    bodies: Counter[str] = field(default_factory=Counter)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    crowded: list[bool] = field(default_factory=list)
    pieces: list[int] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.crowded.append(scope["state"][CROWDED])
        self.bodies[scope["path"]] += 1
        if scope["path"] == "/slow":
            await self.release.wait()
        more = scope["path"] == "/read"
        while more:
            message = await receive()
            self.pieces.append(len(message["body"]))
            more = message["more_body"]
        body = b"x" * 2**24 if scope["path"] == "/large" else b"ok"
        length = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": body})

    async def open(self, first: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        writer.write(first)
        return reader, writer

    async def until(self, count: int) -> None:
        """Waits until so many connections are open."""
        await until(lambda: len(self.limits) == count)


@contextlib.asynccontextmanager
async def serving(
    most: int = 64,
    headers: float = LONG,
    reading: float = LONG,
    kept: float = LONG,
    door: ClosedDoor | None = None,
    gathering: Gathering | None = None,
) -> AsyncIterator[Served]:
    closed: Counter[str] = Counter()
    limits = Connections(most, headers, reading, lambda limit: closed.update([limit]))
    served = Served(limits, closed)
    config = uvicorn.Config(
        served.app,
        interface="asgi3",
        log_config=None,
        access_log=False,
        ws="none",
        timeout_keep_alive=kept,  # type: ignore[arg-type]
    )
    make = functools.partial(
        LimitedProtocol, config, ServerState(), {}, limits=limits, door=door, gathering=gathering
    )
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    served.port = server.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        served.release.set()
        server.close()
        for writer in served.writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await served.until(0)


async def everything(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection is closed; a reset ends it too."""
    parts = []
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(2**16):
                parts.append(part)
    return b"".join(parts)
