"""What a step is said to take is what it takes, and a run that can't fit is refused."""

from contextlib import nullcontext
from typing import Any

import click
import pytest
import torch
from torch import Tensor

from model.clip.towers import recomputed_layers
from tests.training.engine.live_memory import LiveMemory
from tests.training.engine.steps import METHODS, SIDE, batch_of, objective, run_step
from training.commands.errors import reported_errors
from training.engine.memory import MemoryModel, free_memory, require_memory
from training.engine.schedule import Schedule
from training.engine.task import Step
from training.errors import TrainingError
from training.methods.base import Objective

GIB = 2**30


def model_of(task: Objective[Any], windows: int = 1, **more: Any) -> MemoryModel:
    return MemoryModel(task, windows=windows, size=SIDE, whole=task.wants_whole, **more)


def saved(task: Objective[Any], images: int, windows: int, dtype: torch.dtype) -> int:
    """The bytes of the tensors that a real step saves for its backward pass."""
    known = {p.untyped_storage().data_ptr() for p in task.module.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = batch_of(task, images, windows=windows)
    narrow = torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32)
    with narrow, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        losses = Step(task)(batch)  # held until it is counted
    del losses
    return sum(kept.values())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("windows", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_kept_for_the_backward_pass_is_known_without_running_it(
    method: str, windows: int, dtype: torch.dtype
) -> None:
    task = objective(method)
    estimate = model_of(task, windows, dtype=dtype).of(Schedule(epochs=1, batch=30))
    assert estimate.kept == pytest.approx(saved(task, 30, windows, dtype), rel=0.15)


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("method", ["mp-iqe", "clip-agiqa"])
def test_the_most_that_is_alive_at_once_is_known(method: str, parts: int, recompute: bool) -> None:
    task = objective(method, layers=12, width=128)
    schedule = Schedule(epochs=1, batch=48, accumulate=parts, checkpoint_activations=recompute)
    estimate = model_of(task).of(schedule)
    batch = batch_of(task, 48)
    with LiveMemory() as memory, recomputed_layers() if recompute else nullcontext():
        run_step(Step(task, parts), batch)
    gradients = sum(p.nbytes for p in task.trained().values())
    pixels = batch.windows.nbytes
    expected = estimate.kept + estimate.work + estimate.pixels - pixels + gradients
    assert expected == pytest.approx(memory.peak, rel=0.15)


def test_estimating_leaves_network_and_chance_as_they_were() -> None:
    task = objective("clip-agiqa")
    before = {name: value.clone() for name, value in task.module.state_dict().items()}
    torch.manual_seed(7)
    model_of(task)
    after = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(3))
    assert all(torch.equal(before[name], v) for name, v in task.module.state_dict().items())
    assert not any(p.grad is not None for p in task.module.parameters())


def test_processes_share_the_images_but_not_the_loss() -> None:
    memory, schedule = model_of(objective("mp-iqe")), Schedule(epochs=1, batch=64)
    alone, shared = memory.of(schedule), memory.of(schedule, 4)
    assert shared.weights == alone.weights
    assert alone.kept / 4 < shared.kept < alone.kept / 2


def test_too_little_memory_is_one_sentence_with_the_settings_that_help() -> None:
    task = objective("mp-iqe", layers=12, width=128)
    memory, schedule = model_of(task), Schedule(epochs=1, batch=4096)
    needed = memory.of(schedule).total
    require_memory(memory, schedule, needed)
    with pytest.raises(TrainingError) as refused:
        require_memory(memory, schedule, 0.6 * needed)
    text = str(refused.value)
    assert f"takes about {needed / GIB:.3g} GiB" in text
    assert "set schedule.accumulate=2 (" in text
    assert "or schedule.checkpoint_activations=true (" in text
    changed = schedule.model_copy(update={"accumulate": 2})
    require_memory(memory, changed, 0.6 * needed)
    with pytest.raises(TrainingError, match=r"smaller schedule\.batch .* larger device"):
        require_memory(memory, schedule, 1000)


def test_a_cpu_has_what_this_process_may_use() -> None:
    assert 2**28 < free_memory(torch.device("cpu")) < 2**50


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), MemoryError()]
)
def test_memory_that_runs_out_is_a_sentence_too(error: Exception) -> None:
    sentence = r"too little memory.*schedule\.accumulate=2"
    with pytest.raises(click.ClickException, match=sentence), reported_errors():
        raise error


def test_other_errors_of_torch_are_no_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes"), reported_errors():
        raise RuntimeError("shapes differ")
