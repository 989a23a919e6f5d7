"""A run by parts: cuts the inputs, leaves out what has its part, hands the rest to a driver."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import click

from app.bulk.errors import CannotScore, Stopped, require
from app.bulk.parts import drivers
from app.bulk.parts.inputs import units
from app.bulk.parts.output import Output
from app.bulk.parts.progress import UnitsProgress
from app.bulk.parts.samples import Prompts
from app.bulk.parts.units import Shard, Unit
from app.bulk.parts.worker import Receipt, Setup, Work, identity
from app.bulk.progress import duration
from app.bulk.rows import ModelFacts, heads_for
from app.bulk.run import DONE, INTERRUPTED, SOME_FAILED
from model.config import Head

# Twenty to sixty seconds with the bundled models; ``unit_images`` is there for others.
IMAGES_ON_CPU, IMAGES_ON_GPU = 1_000, 10_000
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class PartsJob:
    """What a run by parts is to do.

    Args:
        inputs: as ``inputs.units`` takes them.
        out: folder or address.
        setups: the model, once for each device.
        listed: paths from standard input.
        prompts: where prompts come from.
        heads: None: all that apply.
        unit_images: images of a unit; None: what OUT was begun with, else by the device.
        on_gpu: the device is one, so units are larger.
        shard: which of the units.
        ray: address of a Ray cluster, ``""`` one of this machine's own; None: without Ray.
        quiet: no progress, no summary.
    """

    inputs: Sequence[str]
    out: str
    setups: Sequence[Setup]
    listed: Sequence[str] = ()
    prompts: Prompts = field(default_factory=Prompts)
    heads: tuple[Head, ...] | None = None
    unit_images: int | None = None
    on_gpu: bool = False
    shard: Shard = field(default_factory=Shard)
    ray: str | None = None
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class _Plan:
    """All units of the inputs, in figures; the units themselves are found again one by one."""

    images: int
    units: int
    missing: int
    digest: str


def run_parts(job: PartsJob) -> int:
    """Does the job and returns the exit code: 0 if each of its units has a part by now.

    Raises:
        CannotScore: it can't start.
    """
    require("pyarrow", "a folder of parts")
    output = Output(job.out)
    facts = job.setups[0].facts()
    if job.heads and not heads_for(facts, job.heads, prompted=True):
        raise CannotScore("there are no heads to score")
    have = output.parts()
    plan = _planned(job, output, have)
    if not plan.units:
        raise CannotScore(f"there are no images in {', '.join(job.inputs)}")
    output.claim(_about(job, facts, plan))
    work = Work(job.setups[0], job.out, job.prompts, identity(facts))
    return _do(job, work, partial(_mine, job, plan.images, have), plan)


def _planned(job: PartsJob, output: Output, have: set[str]) -> _Plan:
    begun = (output.run() or {}).get("unit_images")
    images = job.unit_images or begun or (IMAGES_ON_GPU if job.on_gpu else IMAGES_ON_CPU)
    digest, count, missing = hashlib.sha256(), 0, 0
    for unit in units(job.inputs, job.listed, images):
        part = unit.part
        missing += count % job.shard.count == job.shard.index and part not in have
        digest.update(part.encode())
        count += 1
    return _Plan(images, count, missing, digest.hexdigest())


def _about(job: PartsJob, facts: ModelFacts, plan: _Plan) -> dict[str, Any]:
    """What all parts of a folder have in common."""
    name, revision, crop_policy = identity(facts)
    return {
        "format": _FORMAT,
        "model": name,
        "revision": revision,
        "crop_policy": crop_policy,
        "heads": list(job.heads or facts.heads),
        "unit_images": plan.images,
        "prompt": job.prompts.for_all,
        "prompts": job.prompts.source,
        "input": list(job.inputs),
        "units": plan.units,
        "input_sha256": plan.digest,
    }


def _mine(job: PartsJob, images: int, have: set[str]) -> Iterator[Unit]:
    """This shard's units without a part."""
    for number, unit in enumerate(units(job.inputs, job.listed, images)):
        if number % job.shard.count == job.shard.index and unit.part not in have:
            yield unit


def _do(job: PartsJob, work: Work, todo: Callable[[], Iterator[Unit]], plan: _Plan) -> int:
    bar = UnitsProgress(plan.missing, quiet=job.quiet)
    started = time.monotonic()
    failures: Counter[str] = Counter()
    faults: list[str] = []
    by_image = job.ray is None and len(job.setups) == 1
    try:
        with closing(bar):
            for receipt in _receipts(job, work, todo, plan.missing, bar):
                failures.update(receipt.failures)
                if receipt.fault:
                    faults.append(receipt.fault)
                elif not by_image:
                    bar.count(receipt.images, sum(receipt.failures.values()))
                bar.unit()
    except (KeyboardInterrupt, Stopped) as stopped:
        why = "stopped" if isinstance(stopped, KeyboardInterrupt) else str(stopped)
        click.echo(f"{why}: the parts in {job.out} stay; the same command goes on", err=True)
        return INTERRUPTED if isinstance(stopped, KeyboardInterrupt) else SOME_FAILED
    for fault in faults:
        click.echo(fault, err=True)
    if not job.quiet:
        click.echo(_summary(job, plan, bar, failures, time.monotonic() - started), err=True)
    if faults:
        click.echo(f"{len(faults)} units have no part; the same command tries them again", err=True)
    return SOME_FAILED if faults else DONE


def _receipts(
    job: PartsJob, work: Work, todo: Callable[[], Iterator[Unit]], missing: int, bar: UnitsProgress
) -> Iterator[Receipt]:
    if not missing:  # nobody loads a model
        return iter(())
    if job.ray is not None:
        from app.bulk.ray import over_cluster

        return over_cluster(todo, missing, work, job.ray)
    if len(job.setups) > 1:
        return drivers.over_devices(todo(), work, job.setups)
    return drivers.here(todo(), work, lambda failed: bar.count(1, int(failed)))


def _summary(
    job: PartsJob, plan: _Plan, bar: UnitsProgress, failures: Counter[str], seconds: float
) -> str:
    rate = f" ({bar.images / seconds:.1f} images/s)" if bar.images else ""
    shard = "" if job.shard.count == 1 else f", shard {job.shard}"
    text = (
        f"{bar.images} images in {duration(seconds)}{rate}: {plan.missing} of {plan.units} units "
        f"were to be done{shard}"
    )
    codes = ", ".join(f"{count} {code}" for code, count in failures.most_common())
    return f"{text}\nfailed: {codes}" if codes else text
