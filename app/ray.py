"""The service on Ray Serve: ``agiqa serve --ray``, or ``serve run app.ray:application``.

Each replica holds the whole service: Serve adds one address, and as many replicas as the backlog
needs. Needs the extra ``ray``.
"""

import asyncio
import math
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import ray
from fastapi import FastAPI
from pydantic import BaseModel, Field
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy, HTTPOptions

from app.batching.admission import Admission, State
from app.logs import configure
from app.main import create_app
from app.settings import Settings, load_settings
from app.startup.side_port import serve_beside

NAME = "agiqa"
BACKLOG = "backlog_seconds"
Create = Callable[..., FastAPI]
# A replica whose worker is down for so long is replaced, in seconds.
_DOWN_SECONDS = 120.0


class Scale(BaseModel):
    """How many replicas, and on which port of its node each shows its own metrics: the first that
    is free from ``metrics_port`` on.
    """

    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=8, ge=1)
    metrics_port: int = Field(default=9400, ge=1, le=65435)


def by_backlog(ctx: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """As many replicas as share the backlog at a second each, but one less at a time: a lull ends;
    as before without news of it. Serve applies bounds and delays.
    """
    reported = (ctx.aggregated_metrics or {}).get(BACKLOG)
    if not reported:
        return ctx.target_num_replicas, {}
    mean = sum(reported.values()) / len(reported)
    wanted = math.ceil(ctx.current_num_replicas * mean)
    return max(1, wanted, ctx.target_num_replicas - 1), {}


class Replica:
    """One service, as Serve drives it: it counts once its models are loaded."""

    def __init__(self, settings: Settings, metrics_port: int, create: Create = create_app) -> None:
        configure(settings.log_level, settings.log_format)
        self._failures: list[BaseException] = []
        self._up_at = time.monotonic()
        self._app = create(settings, as_replica=True, on_fatal=self._failures.append)
        self._admission: Admission = self._app.state.service.admission
        self._metrics = asyncio.create_task(serve_beside(self._app, settings.host, metrics_port))

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._app

    def check_health(self) -> None:
        """Raises what the service can't survive; Serve replaces the replica then."""
        for failure in self._failures:
            raise failure
        now = time.monotonic()
        if self._admission.state is not State.WORKER_DOWN:
            self._up_at = now
        if now - self._up_at > _DOWN_SECONDS:
            raise RuntimeError("the worker does not come back")

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What the policy goes by."""
        return {BACKLOG: self._admission.expected_seconds()}


def deployment(settings: Settings, scale: Scale, create: Create = create_app) -> serve.Application:
    """What ``serve.run`` takes. A replica reserves a GPU for each ``cuda`` of the devices, and as
    many cores as the network has threads.
    """
    autoscaling = AutoscalingConfig(
        min_replicas=scale.min_replicas,
        max_replicas=scale.max_replicas,
        initial_replicas=scale.min_replicas,
        look_back_period_s=15,
        upscale_delay_s=10,
        downscale_delay_s=300,
        policy=AutoscalingPolicy(policy_function="app.ray:by_backlog"),
    )
    return serve.deployment(
        serve.ingress()(Replica),
        name=NAME,
        ray_actor_options={
            "num_gpus": settings.device.count("cuda"),
            "num_cpus": settings.threads or 1,
        },
        autoscaling_config=autoscaling,
        # The door of the service decides who waits, and for how long.
        max_ongoing_requests=100_000,
        max_queued_requests=-1,
        graceful_shutdown_timeout_s=settings.drain_seconds + 10,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=5,
        max_constructor_retry_count=3,
    ).bind(settings, scale.metrics_port, create)


def application(scale: Scale) -> serve.Application:
    """For ``serve run app.ray:application [min_replicas=2 ...]``; settings come from ``AGIQA_*``.

    Raises:
        SettingsError: they can't be used.
    """
    return deployment(load_settings(), scale)


def run(settings: Settings, address: str) -> int:
    """Serves until a signal, on the cluster at ``address`` (``local``: one on this machine alone).

    Raises:
        ConnectionError: there is no cluster.
        RuntimeError: the service could not start.
    """
    if address == "local":
        ray.init("local", include_dashboard=False, object_store_memory=2**27)
    else:
        ray.init(address)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    serve.start(http_options=HTTPOptions(host=settings.host, port=settings.port))
    try:
        serve.run(deployment(settings, Scale()), name=NAME)
        stop.wait()
    finally:
        serve.delete(NAME)
        ray.shutdown()
    return 0
