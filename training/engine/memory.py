"""What memory a training step takes, known before the run starts.

The network is run on tensors without values (torch's FakeTensorMode), for two small batches; what
each layer keeps for the backward pass grows in a line with the images, so two tell the line.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from model.methods.precision import without_autocast
from model.resources import usable_memory
from training.data.samples import Sample
from training.engine.schedule import Schedule
from training.engine.task import Outputs, Step, Task
from training.errors import TrainingError
from training.sampling.batches import Batch

# Of so many images each.
_FEW, _MORE = 2, 4
# Copies of what learns: its gradient, the optimiser's two moments, and what its step makes.
_COPIES = {"sgd": 2, "adam": 4, "adamw": 4, "muon": 4}
_FLOAT = 4


@dataclass
class _Kept:
    """Bytes that autograd keeps of one step: what each transformer layer takes in (``inputs``) and
    what it keeps, the ``rest`` before the last of them ends, and ``heads`` and ``loss`` after it.
    """

    layers: list[float] = field(default_factory=list)
    inputs: list[float] = field(default_factory=list)
    rest: float = 0.0
    heads: float = 0.0
    loss: float = 0.0
    end: float = 0.0

    def along(self, other: "_Kept", share: float) -> "_Kept":
        """What lies on the line from here to the other, at 0 and 1."""

        def at(one: float, two: float) -> float:
            return one + share * (two - one)

        return _Kept(
            list(map(at, self.layers, other.layers)),
            list(map(at, self.inputs, other.inputs)),
            at(self.rest, other.rest),
            at(self.heads, other.heads),
            at(self.loss, other.loss),
        )


@dataclass(frozen=True)
class StepMemory:
    """Bytes by what holds them: ``weights`` with all that learns has beside them, ``pixels``, what
    is ``kept`` for the backward pass, and the ``work`` space of one layer's.
    """

    weights: float
    pixels: float
    kept: float
    work: float

    @property
    def total(self) -> float:
        return self.weights + self.pixels + self.kept + self.work


class MemoryModel:
    """What a step of a task takes under any schedule. ``size`` is the side of its ``windows``; with
    the ``whole`` image as one more view, or so many ``features`` in place of any pixels; the
    network is computed in ``dtype``.
    """

    def __init__(
        self,
        task: Task,
        *,
        windows: int,
        size: int,
        whole: bool = False,
        features: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._pixels = features or (windows + whole) * 3 * size**2
        self._learned = sum(p.nbytes for p in task.trained().values())
        self._own = _bytes_of(task.module.parameters()) + _bytes_of(task.module.buffers())
        shape = (1, features) if features else (windows, 3, size, size)
        batches = (_batch(images, shape, whole=whole) for images in (_FEW, _MORE))
        self._few, self._more = (_measured(task, batch, dtype) for batch in batches)

    def of(self, schedule: Schedule, shared_by: int = 1) -> StepMemory:
        """Of one of so many processes that share a batch."""
        images = (schedule.batch + 2 * schedule.degraded) / shared_by
        part = math.ceil(images / schedule.accumulate)
        kept = self._at(part)
        layer = max(kept.layers, default=0.0)
        after = kept.heads + self._at(schedule.batch).loss
        layers = sum(kept.layers) + after
        if schedule.checkpoint_activations:  # heads are done with before a layer comes again
            layers = sum(kept.inputs) + max(layer, after - layer)
        return StepMemory(
            self._weights(schedule),
            self._pixels * (images + _FLOAT * part),
            layers + kept.rest,
            layer,
        )

    def _at(self, images: float) -> _Kept:
        return self._few.along(self._more, (images - _FEW) / (_MORE - _FEW))

    def _weights(self, schedule: Schedule) -> float:
        copies = _COPIES[schedule.optimiser] + bool(schedule.ema) + (schedule.select == "best")
        return self._own + copies * self._learned


def _measured(task: Task, batch: Batch, dtype: torch.dtype) -> _Kept:
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32)
    with torch.random.fork_rng(devices=[]), autocast:
        shapes, kept = _forward(task, batch)
        outputs = {
            name: torch.zeros(shape, dtype=of, requires_grad=True)
            for name, (shape, of) in shapes.items()
        }
        loss = _Saved({p.untyped_storage()._cdata for p in task.module.parameters()})
        with without_autocast(batch.mos), loss.recording():
            task.loss(outputs, batch)
        kept.loss = loss.total
    return kept


def _forward(task: Task, batch: Batch) -> tuple[dict[str, Any], _Kept]:
    """Shapes and types of the outputs, and what is kept until there."""
    kept = _Kept()
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        parameters = [fake.from_tensor(p) for p in task.module.parameters()]
        saved = _Saved({p.untyped_storage()._cdata for p in parameters})
        windows = fake.from_tensor(batch.windows)
        wholes = None if batch.wholes is None else fake.from_tensor(batch.wholes)
        with ExitStack() as watched, saved.recording():
            for layer in _layers(task.module):
                watched.enter_context(_watched(layer, saved, kept))
            outputs: Outputs = Step(task)._forward(windows, wholes)
        kept.heads = saved.total - kept.end
        kept.rest = kept.end - sum(kept.layers)
        return {name: (value.shape, value.dtype) for name, value in outputs.items()}, kept


class _Saved:
    """The ``total`` bytes of what autograd keeps, without those storages that are there anyway."""

    def __init__(self, without: set[int]) -> None:
        self.total = 0
        self._known = without
        self._held: list[Tensor] = []

    def recording(self) -> torch.autograd.graph.saved_tensors_hooks:
        return torch.autograd.graph.saved_tensors_hooks(self._pack, lambda kept: kept)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._known.add(storage._cdata)
            self._held.append(tensor)  # a storage that is freed leaves its address to another
            self.total += storage.nbytes()
        return tensor


def _layers(module: nn.Module) -> Iterator[Any]:
    """The transformer layers of both towers."""
    for part in module.modules():
        yield from getattr(part, "resblocks", ())


@contextmanager
def _watched(layer: Any, saved: _Saved, kept: _Kept) -> Iterator[None]:
    """Notes what the layer takes in and keeps; towers call its parts, not itself."""
    before: list[int] = []

    def enters(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        before.append(saved.total)
        kept.inputs.append(float(inputs[0].untyped_storage().nbytes()))

    def leaves(*_: Any) -> None:
        kept.layers.append(float(saved.total - before.pop()))
        kept.end = saved.total

    first = layer.ln_1.register_forward_pre_hook(enters)
    last = layer.ls_2.register_forward_hook(leaves)
    try:
        yield
    finally:
        first.remove()
        last.remove()


def _batch(images: int, shape: tuple[int, ...], *, whole: bool) -> Batch:
    """Black images, or features of such, that tell everything that a loss may ask for."""
    samples = [
        Sample("A", Path("x"), "x", mos, mos, f"{mos}", scenes=("human",), distortion="blur")
        for mos in (i / images for i in range(images))
    ]
    mos = torch.tensor([sample.mos for sample in samples])
    views = torch.zeros(images, *shape, dtype=torch.uint8 if len(shape) > 2 else torch.float32)
    return Batch(views, views[:, 0] if whole else None, mos, mos, samples)


def _bytes_of(tensors: Iterator[Tensor]) -> int:
    return sum({t.untyped_storage().data_ptr(): t.nbytes for t in tensors}.values())


def require_memory(
    memory: MemoryModel, schedule: Schedule, free: float, shared_by: int = 1
) -> None:
    """Refuses a run whose steps take more than the ``free`` bytes.

    Raises:
        TrainingError: names the settings that help, and what a step takes with them.
    """
    needed = memory.of(schedule, shared_by).total
    if needed > free:
        raise TrainingError(
            f"a training step takes about {_gib(needed)} GiB of memory, and the device has "
            f"{_gib(free)} GiB for it: {_advice(memory, schedule, free, shared_by)}"
        )


def free_memory(device: torch.device) -> float:
    """Bytes that a run may use there: of a GPU what nobody has, of a CPU what this process may
    have.
    """
    if device.type != "cuda":
        return usable_memory()
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _advice(memory: MemoryModel, schedule: Schedule, free: float, shared_by: int) -> str:
    """Which settings help: each alone if it is enough, else both."""

    def total(**changes: Any) -> float:
        return memory.of(schedule.model_copy(update=changes), shared_by).total

    recompute = {"checkpoint_activations": True}
    doublings = [2**n for n in range(1, schedule.batch.bit_length())]
    found = []
    for others in ({}, recompute):
        fitting = (n for n in doublings if total(accumulate=n, **others) <= free)
        if parts := next(fitting, None):
            found.append({"accumulate": parts, **others})
        if total(**recompute) <= free:
            found.append(recompute)
        if found:
            break
    if not found:
        return "set a smaller schedule.batch or schedule.windows, or take a larger device"
    return f"set {' or '.join(f'{_settings(c)} ({_gib(total(**c))} GiB)' for c in found)}"


def _settings(changes: Mapping[str, Any]) -> str:
    return " and ".join(f"schedule.{key}={str(value).lower()}" for key, value in changes.items())


def _gib(size: float) -> str:
    return f"{size / 2**30:.3g}"
