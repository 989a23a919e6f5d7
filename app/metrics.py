"""Prometheus metrics, prefix ``agiqa_``: one registry, owned by the API process, every series there
from the start.

Crops are counted by their cost in rows of the model's own size, so that sums and rates compare.
"""

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.answer_cache import RESULTS
from app.batching.admission import Admission
from app.batching.batcher import Outcome
from app.batching.errors import REASONS
from app.batching.fairness import Priority
from app.batching.jobs import Batch, Fault
from app.batching.lane import Lane
from app.batching.scheduler import Scheduler
from app.device.messages import RESTART_REASONS
from model.decoding.decoder import DEATHS

# The routes that are counted by name; what else is called is "other".
ENDPOINTS = ("/score", "/score-agi", "/score/batch", "/score-agi/batch", "/models")
_CODES = (
    *("200", "400", "401", "403", "404", "405", "408", "413", "415", "421", "422", "429"),
    *("499", "500", "503", "504"),
)
# Why a connection was closed.
_LIMITS = ("slow_headers", "large_headers", "slow_reader", "crowded")
_STAGES = ("read", "decode", "queue", "inference", "reduce")
# 7.5 and 12.5 stand around the default deadline of 10 s: without them a quantile of answers that
# just missed it would be guessed to lie between 10 and 30 s.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 7.5, 10.0, 12.5, 30.0)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TENTHS = tuple(i / 20 for i in range(1, 21))


class Metrics:
    """Every series of the service; implements ``app.batching.batcher.Observer``."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.requests = self._counter(
            "requests", "Requests by endpoint and HTTP status.", "endpoint", "code"
        )
        self.classes = self._counter(
            "requests_by_priority",
            "Scoring requests by class and HTTP status; those that are refused before their class "
            "is looked at are not among them.",
            "priority",
            "code",
        )
        self.failures = self._counter(
            "request_failures", "Requests without a score, by reason.", "reason"
        )
        self.in_flight = self._gauge("requests_in_flight", "Requests being served now.")
        self.body_bytes = self._gauge(
            "body_bytes_in_flight", "Bytes of uploads that are being read or served."
        )
        self.connections = self._gauge("connections", "Open connections.")
        self.closings = self._counter(
            "connections_closed", "Connections closed at a limit, by limit.", "limit"
        )
        self.duration = self._histogram(
            "request_duration_seconds", "Whole requests.", _SECONDS, "endpoint"
        )
        self.stages = self._histogram(
            "stage_duration_seconds", "Parts of a request.", _SECONDS, "stage"
        )
        self.request_crops = self._histogram("request_crops", "Cost of an image in rows.", _COUNTS)
        self.megapixels = self._histogram(
            "image_megapixels", "Size of the images.", (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 100)
        )
        self._add_work()
        self._add_state()
        self._create_series()

    def _add_work(self) -> None:
        """What is computed, and by whom."""
        self.batch_crops = self._histogram("batch_crops", "Cost of a batch in rows.", _COUNTS)
        self.batch_requests = self._histogram("batch_requests", "Images of a batch.", _COUNTS)
        self.crops_processed = self._counter(
            "crops_processed", "Cost in rows of what was computed."
        )
        # For a graph that is compiled for a fixed batch size, and filled up to it. Eager execution
        # takes batches of any size: there it stays 0.
        self.padding_crops = self._counter(
            "padding_crops", "Rows computed only to fill a fixed batch size."
        )
        self.batches = self._counter("batches", "Batches by what made them start.", "trigger")
        self.batch_seconds = self._histogram(
            "batch_inference_seconds", "Time of the network for a batch.", _SECONDS
        )
        self.worker_up = self._gauge(
            "worker_up", "Workers that are up: 1 or 0 where a device has one.", "device"
        )
        self.workers = self._gauge("workers", "Workers that there should be.", "device")
        self.worker_restarts = self._counter(
            "worker_restarts", "Workers that ended, by reason.", "reason"
        )
        self.decode_worker_restarts = self._counter(
            "decode_worker_restarts", "Decode processes that ended under an image.", "reason"
        )
        self.oom = self._counter("oom", "Batches that the device's memory could not hold.")
        self.prompt_cache = self._counter(
            "prompt_cache_requests", "Prompts by cache result.", "result"
        )
        self.answer_cache = self._counter(
            "answer_cache_requests",
            "Images by cache result, where AGIQA_CACHE_ANSWERS is set; joined: computed for "
            "another one.",
            "result",
        )

    def _add_state(self) -> None:
        """What is loaded and in use now, and the scores that were given."""
        self.gpu_memory = self._gauge(
            "gpu_memory_bytes", "Memory that the workers hold on each GPU.", "device"
        )
        self._gpu_memory: dict[int, tuple[str, int]] = {}  # by the number of the worker
        self.arena_bytes = self._gauge(
            "arena_bytes", "Shared memory that holds crops of requests under way."
        )
        self.answer_cache_entries = self._gauge("answer_cache_entries", "Scores in the cache.")
        self.answer_cache_bytes = self._gauge(
            "answer_cache_bytes", "Memory that the scores in the cache take, about."
        )
        self.loop_lag = self._gauge(
            "event_loop_lag_seconds", "How late the event loop ran its latest tick."
        )
        self.ready = self._gauge("ready", "Whether the service takes requests.")
        self.model_info = self._gauge(
            "model_info", "Loaded models.", "name", "method", "revision", "device", "dtype"
        )
        self.score = self._histogram(
            "score", "Scores given, by model and head.", _TENTHS, "model", "head"
        )

    def watch_queue(self, scheduler: Scheduler, clock: Callable[[], float]) -> None:
        """Adds the gauges of the queue, read at each scrape."""
        self.registry.register(_QueueCollector(scheduler, clock))

    def watch_admission(self, admission: Admission, lane: Lane) -> None:
        """Adds the gauges of what was let in, and of what waits for it, read at each scrape."""
        self.registry.register(_AdmissionCollector(admission, lane))

    def text(self) -> bytes:
        """The exposition that Prometheus scrapes."""
        return generate_latest(self.registry)

    def batch_sent(self, batch: Batch) -> None:
        """Counts a batch that goes to the device, and how long its images waited."""
        self.batches.labels(batch.trigger).inc()
        self.batch_crops.observe(batch.cost)
        self.batch_requests.observe(len(batch.slices))
        for piece in batch.slices:
            if piece.start == 0:
                self.stages.labels("queue").observe(max(0.0, batch.sent - piece.job.arrived))

    def batch_done(self, batch: Batch, outcome: Outcome) -> None:
        self.crops_processed.inc(batch.cost)
        self.batch_seconds.observe(outcome.seconds)
        self.stages.labels("inference").observe(outcome.seconds)
        self.stages.labels("reduce").observe(outcome.reduce_seconds)
        self.prompt_cache.labels("hit").inc(outcome.cached_prompts)
        self.prompt_cache.labels("miss").inc(outcome.new_prompts)
        device, _ = self._gpu_memory.get(batch.lane, ("", 0))
        self.hold_gpu_memory(batch.lane, device, outcome.gpu_bytes)

    def batch_failed(self, batch: Batch, fault: Fault) -> None:
        """Counts batches that memory could not hold; the images' failures are counted where they
        are answered.
        """
        del batch
        if fault is Fault.OUT_OF_MEMORY:
            self.oom.inc()

    def hold_gpu_memory(self, worker: int, device: str, size: int) -> None:
        """The worker of that number holds so many bytes on its device now."""
        self._gpu_memory[worker] = device, size
        total = sum(size for other, size in self._gpu_memory.values() if other == device)
        self.gpu_memory.labels(device).set(total)

    def decoder_ended(self, reason: str) -> None:
        """Counts a decode process that ended under an image."""
        self.decode_worker_restarts.labels(reason).inc()

    def _create_series(self) -> None:
        for endpoint in (*ENDPOINTS, "other"):
            self.duration.labels(endpoint)
            for code in _CODES:
                self.requests.labels(endpoint, code)
        for priority in Priority:
            for code in _CODES:
                self.classes.labels(priority, code)
        for metric, values in (
            (self.failures, REASONS),
            (self.closings, _LIMITS),
            (self.stages, _STAGES),
            (self.batches, ("idle", "full", "drain")),
            (self.worker_restarts, RESTART_REASONS),
            (self.decode_worker_restarts, DEATHS),
            (self.prompt_cache, ("hit", "miss")),
            (self.answer_cache, RESULTS),
        ):
            for value in values:
                metric.labels(value)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace="agiqa", registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, namespace="agiqa", registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(
            name, text, labels, namespace="agiqa", registry=self.registry, buckets=tuple(buckets)
        )


class _QueueCollector(Collector):
    """Gauges read off the queue when they are asked for, so that they are never stale."""

    def __init__(self, scheduler: Scheduler, clock: Callable[[], float]) -> None:
        self._scheduler = scheduler
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        jobs: list[Any] = self._scheduler.queued
        oldest = max((self._clock() - job.arrived for job in jobs), default=0.0)
        yield GaugeMetricFamily("agiqa_queue_requests", "Images that wait.", len(jobs))
        yield GaugeMetricFamily(
            "agiqa_queue_crops", "Cost in rows of what waits.", sum(job.cost for job in jobs)
        )
        yield GaugeMetricFamily(
            "agiqa_queue_oldest_age_seconds", "Age of the image that waits longest.", oldest
        )


class _AdmissionCollector(Collector):
    """Gauges of what admission reckons with."""

    def __init__(self, admission: Admission, lane: Lane) -> None:
        self._admission = admission
        self._lane = lane

    def collect(self) -> Iterable[Metric]:
        backlog = GaugeMetricFamily(
            "agiqa_backlog_seconds",
            "What all that is admitted and not yet answered is expected to take, by class.",
            labels=["priority"],
        )
        for priority in Priority:
            backlog.add_metric([priority], self._admission.expected_seconds(priority))
        yield backlog
        yield GaugeMetricFamily(
            "agiqa_admission_margin",
            "Factor on these estimates, learned from when answers came; 1: they hold.",
            self._admission.margin.factor,
        )
        yield GaugeMetricFamily(
            "agiqa_lane_images",
            "Images of batch calls, and of the class bulk, that are admitted and wait to be "
            "decoded.",
            self._lane.waiting,
        )
