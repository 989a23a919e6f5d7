"""The composition root: settings in, application out. Nothing happens at import."""

import asyncio
import contextlib
import functools
import gc
import importlib.metadata
import logging
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from app.batching.admission import Admission
from app.batching.batcher import Batcher
from app.batching.budget import Limits
from app.batching.lane import Lane
from app.batching.ledger import Ceilings, Ticket
from app.batching.rate import Rates
from app.batching.scheduler import Scheduler
from app.catalogue import Models
from app.device.arena import Arena
from app.device.decoders import DecodePool, ImageDecoder, decode_process
from app.device.launch import EarlyWorker
from app.device.messages import WorkerSettings
from app.device.pool import Pool, SupervisedDevice
from app.device.slots import Slots
from app.device.supervisor import WorkerDevice
from app.http import admin, page, probes, problems, routes
from app.http.draining import UntilDrained
from app.http.keys import KeyLimits, Keys
from app.http.limits.bodies import Bodies, BodyBudget
from app.http.limits.connections import Connections
from app.http.limits.door import Door
from app.http.limits.gathering import Gathering
from app.http.limits.protocol import LimitedProtocol
from app.http.limits.unread import Unread
from app.http.middleware import MACHINES, Gate, RequestContext
from app.http.tracing import exported_spans
from app.http.waiting import UntilUp
from app.key_file import KeyFile
from app.logs import configure, dump_stacks_on_faults, shown_as
from app.metrics import Metrics
from app.scoring import Parts
from app.service import Service
from app.settings import Settings
from app.startup.banner import banner
from app.startup.files import most_connections
from app.startup.sockets import address as address_of
from app.startup.sockets import doors, listen
from model.resources import keep_freed_memory, usable_cores

if TYPE_CHECKING:
    from app.http.spans import StageSpans

logger = logging.getLogger(__name__)

# After a signal, the event loop takes in who waits in the kernel: a few turns, eight a turn.
LAST_TURNS_SECONDS = 0.1
# Bytes of bodies that were served and are kept for those that come.
_KEPT_OF_BODIES = 64 * 2**20
_ABOUT = """Scores the quality of images, generated ones above all. All scores lie in [0, 1],
high = better. Errors are `application/problem+json` with a stable `code`; every answer
carries `X-Request-ID`."""


def create_app(
    settings: Settings,
    *,
    device: Callable[[WorkerSettings, Arena], SupervisedDevice] = WorkerDevice,
    decoder: Callable[[Settings, Arena, Callable[[str], None]], ImageDecoder] = decode_process,
    on_ready: Callable[[Models], None] = lambda _: None,
    on_fatal: Callable[[BaseException], None] = lambda _: None,
    as_replica: bool = False,
) -> FastAPI:
    """The ASGI application; its workers start with the lifespan.

    Args:
        settings: of the service.
        device: makes each worker, which computes batches; tests hand in one without a process.
        decoder: makes what decodes images, one at a time.
        on_ready: hears once that the models are loaded.
        on_fatal: hears of what the service can't survive, models that can't be loaded above all.
        as_replica: who routes to it does not look at /readyz, and sends the X-Request-ID: startup
            lasts until the models are loaded, and requests wait for a worker that is down.

    Raises:
        ArenaError: the machine can't hold the shared memory.
        SettingsError: the file of keys can't be used.
    """
    clock = time.monotonic
    key_file = KeyFile(settings.keys_file) if settings.keys_file else None
    arena = Arena(settings.arena_bytes)
    names = settings.worker_devices
    # Of a replica's cores whoever places it disposes.
    most = 1 if as_replica else settings.most_workers(usable_cores())
    workers = [device(_worker_settings(settings, name, most=most), arena) for name in names]
    limits = Limits(settings.max_batch_seconds, settings.batch_rows(names[0]))
    scheduler = Scheduler(limits, *(Rates() for _ in workers))
    ceilings = Ceilings(settings.max_rows, settings.arena_bytes)
    admission = Admission(ceilings, scheduler, clock, settings.decode_workers)
    lane = _lane(admission, scheduler, ceilings)
    metrics = Metrics()
    metrics.watch_queue(scheduler, clock)
    metrics.watch_admission(admission, lane)
    count = settings.decode_workers
    decoders = [decoder(settings, arena, metrics.decoder_ended) for _ in range(count)]
    parts = Parts(
        admission=admission,
        lane=lane,
        slots=Slots(arena),
        decoders=DecodePool(decoders, count * settings.max_decode_bytes),
        batcher=Batcher(scheduler, workers, metrics, clock),
    )
    loaded = Loaded(on_ready, on_fatal)
    service = Service(
        settings,
        metrics,
        parts,
        pool=Pool(workers),
        one_more=lambda threads: device(
            _worker_settings(settings, settings.device, threads=threads), arena
        ),
        clock=clock,
        on_ready=loaded.ready,
        on_fatal=loaded.failed,
    )
    return _application(service, key_file, loaded if as_replica else None)


class Loaded:
    """Passes on that the models are loaded, or that the service can't go on; one may wait for the
    first of it.
    """

    def __init__(
        self,
        on_ready: Callable[[Models], None],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._on_ready = on_ready
        self._on_fatal = on_fatal
        self._news = asyncio.Event()
        self._error: BaseException | None = None

    async def wait(self) -> None:
        """Returns when the models are loaded.

        Raises:
            BaseException: why they can't be.
        """
        await self._news.wait()
        if self._error:
            raise self._error

    def ready(self, models: Models) -> None:
        self._news.set()
        self._on_ready(models)

    def failed(self, error: BaseException) -> None:
        self._error = error
        self._news.set()
        self._on_fatal(error)


def _lane(admission: Admission, scheduler: Scheduler, ceilings: Ceilings) -> Lane:
    """The lane of batch calls, which leaves half of the memory to others."""

    def batches(ticket: Ticket) -> float:
        return ticket.load.cost / scheduler.at_once(ticket.model)

    lane = Lane(admission.has_room, batches, ceilings.bytes // 2)
    admission.on_room = lane.look
    return lane


def _worker_settings(
    settings: Settings, device: str, *, most: int = 1, threads: int | None = None
) -> WorkerSettings:
    return WorkerSettings(
        models=settings.models,
        device=device,
        dtype=settings.dtype,
        threads=threads or settings.worker_threads(usable_cores()),
        arena_bytes=settings.arena_bytes,
        log_level=settings.log_level,
        log_format=settings.log_format,
        load_seconds=settings.load_seconds,
        max_prompt_tokens=settings.max_prompt_tokens,
        most_workers=most,
    )


def _application(service: Service, key_file: KeyFile | None, loaded: Loaded | None) -> FastAPI:
    """The endpoints, and what surrounds them; ``loaded``: what a replica's startup
    waits for.
    """
    settings = service.settings
    keys = Keys(settings.api_keys, file=key_file)
    spans = exported_spans()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        if key_file:
            key_file.start()
        try:
            if loaded:
                await loaded.wait()
            yield
        finally:
            await service.stop()
            if key_file:
                key_file.stop()
            if spans:
                await asyncio.to_thread(spans.close)

    app = FastAPI(
        title="agiqa",
        version=importlib.metadata.version("agiqa"),
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry=_telemetry(spans),
    )
    app.state.service = service
    problems.install(app)
    app.include_router(routes.scoring(service, keys))
    app.include_router(routes.batches(service, keys))
    app.include_router(routes.operations(service, keys))
    app.include_router(probes.probes(service))
    app.include_router(admin.administration(service))
    page.install(app)
    _surround(app, service, keys, spans, loaded)
    return app


def _surround(
    app: FastAPI,
    service: Service,
    keys: Keys,
    spans: "StageSpans | None",
    loaded: Loaded | None,
) -> None:
    """What a request passes on its way to the endpoints, the innermost first, and the door before
    all of it.
    """
    settings = service.settings
    budget = BodyBudget(settings.max_bodies_bytes)
    service.metrics.body_bytes.set_function(lambda: budget.bytes)
    app.add_middleware(Bodies, admission=service.admission, settings=settings, budget=budget)
    app.add_middleware(KeyLimits)
    app.add_middleware(Gate, admission=service.admission, settings=settings, keys=keys)
    if loaded:
        app.add_middleware(UntilUp, admission=service.admission, most=settings.deadline_seconds)
    app.add_middleware(UntilDrained, admission=service.admission, serving=service.serving)
    app.add_middleware(
        RequestContext,
        metrics=service.metrics,
        slow_seconds=settings.slow_request_seconds,
        spans=spans,
        sends_id=loaded is None,
    )
    app.add_middleware(Unread, admission=service.admission)
    # Whoever wants spans wants those of refusals as well.
    door = Door(service.admission, service.metrics, settings, keys)
    app.state.door = None if spans else door


def _telemetry(spans: "StageSpans | None") -> TelemetryConfig:
    """FastAPI's own: a span for each request but probes and scrapes. Its logs would hold messages,
    and metrics there are already.
    """
    return {
        "tracing": spans is not None,
        "tracer_provider": spans.provider if spans else None,
        "auto_configure": spans is not None,
        "metrics": False,
        "logs": False,
        "operation_spans": False,
        "exclude": lambda scope: scope.get("path") in MACHINES,
    }


class Server(uvicorn.Server):
    """uvicorn, with the drain of the service before the end of its connections."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Takes requests. What lives until the end is out of the garbage collector's way from now
        on: to look through all of it again and again would hold the event loop up, 50 ms at a time.
        """
        await super().startup(sockets)
        gc.collect()
        gc.freeze()

    async def on_tick(self, counter: int) -> bool:
        """Whether the end has come: after a signal, once readiness has fallen for long enough; at a
        second SIGINT at once.
        """
        return await super().on_tick(counter) and (self._service.retire() or self.force_exit)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops taking requests at once; those that were admitted are finished. Whoever has
        connected, and waits in the kernel for a turn of the event loop, is let in and answered: to
        close the sockets would cut it off.
        """
        self._service.begin_drain()
        await asyncio.sleep(LAST_TURNS_SECONDS)
        await super().shutdown(sockets)

    def heed_signals(self) -> None:
        """Ends at a signal, also before uvicorn runs and after: it raises the signal again after an
        orderly end, which is status 0.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._end)

    def _end(self, *_: object) -> None:
        self.should_exit = True


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How uvicorn serves it."""
    metrics: Metrics = app.state.service.metrics
    limits = Connections(
        settings.max_connections,
        settings.header_seconds,
        settings.body_seconds,
        lambda limit: metrics.closings.labels(limit).inc(),
    )
    metrics.connections.set_function(lambda: len(limits))
    door: Door | None = app.state.door
    protocol = functools.partial(
        LimitedProtocol, limits=limits, door=door, gathering=Gathering(door) if door else None
    )
    return uvicorn.Config(
        app,
        http=protocol,  # type: ignore[arg-type]
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        forwarded_allow_ips=list(settings.forwarded_allow_ips),
        # What the drain has cut off is answered by then. uvicorn takes parts of seconds too.
        timeout_graceful_shutdown=settings.drain_seconds + 1,  # type: ignore[arg-type]
    )


def serve(settings: Settings, early: EarlyWorker | None = None) -> int:
    """Runs the service until a signal; returns the exit status, 1 if it could not start. ``early``:
    the process of the first worker.

    Raises:
        ArenaError: the machine can't hold the shared memory.
        ListenError: the address can't be listened on.
        SettingsError: the file of keys can't be used.
    """
    configure(settings.log_level, settings.log_format)
    dump_stacks_on_faults()
    keep_freed_memory(_KEPT_OF_BODIES)
    if settings.decode_threads is not None:
        logger.warning("AGIQA_DECODE_THREADS is now AGIQA_DECODE_WORKERS; rename it")
    most = most_connections(settings.max_connections)
    settings = settings.model_copy(update={"max_connections": most})
    sockets = listen(settings.host, settings.port)
    address = address_of(settings.host, sockets)
    failed: list[BaseException] = []

    def give_up(error: BaseException) -> None:
        failed.append(error)
        server.should_exit = True

    def greet(models: Models) -> None:
        if shown_as(settings.log_format) == "text":
            logger.info("%s", banner(app.version, address, models))
        else:
            logger.info("the page is at %s/, the API at %s/docs", address, address)

    device = functools.partial(WorkerDevice, early=early)
    app = create_app(settings, device=device, on_ready=greet, on_fatal=give_up)
    server = Server(server_config(app, settings), app.state.service)
    logger.info("loading %s; the page will be at %s/", ", ".join(settings.models), address)
    server.heed_signals()
    server.run(doors(sockets))
    return 1 if failed or not server.started else 0
