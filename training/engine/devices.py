"""The device, its precision and the processes that share the work, by Hugging Face accelerate.

``torchrun --nproc-per-node N --no-python agiqa train RECIPE`` starts N processes.
"""

import ctypes
from typing import Any, Literal

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.state import AcceleratorState

from model.scorer import choose_device, choose_dtype
from training.errors import TrainingError

# glibc's M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_TOP_PAD, in bytes.
_MALLOC = {-3: 2**30, -1: 2**31 - 1, -2: 2**28}

Precision = Literal["auto", "fp32", "bf16", "fp16"]


def processes(device: str) -> PartialState:
    """This process's place among those that share the work on ``device``: auto, cpu or cuda.

    Raises:
        TrainingError: a device that isn't there.
    """
    cpu = _chosen(device).type == "cpu"
    # Told nothing, accelerate lets the processes of a machine without GPU work each on its own.
    state = PartialState(cpu=cpu)
    if (state.device.type == "cpu") != cpu:  # what ran before in this process ran elsewhere
        AcceleratorState._reset_state(reset_partial_state=True)
        state = PartialState(cpu=cpu)
    return state


def accelerator_for(device: str, precision: Precision) -> Accelerator:
    """The machine as a run uses it: ``device`` is auto, cpu or cuda.

    Raises:
        TrainingError: fp16 on a CPU, or a device that isn't there.
    """
    chosen = processes(device).device
    if chosen.type == "cpu":
        keep_freed_memory()
    precision = precision_of(precision, chosen)
    if precision == "fp16" and chosen.type == "cpu":
        raise TrainingError("fp16 needs a GPU: set schedule.precision to bf16 or fp32")
    # One process may run several stages or cells that differ in precision.
    AcceleratorState._reset_state(reset_partial_state=False)
    # Ablations leave some parameters out of the loss.
    kwargs: list[Any] = [DistributedDataParallelKwargs(find_unused_parameters=True)]
    return Accelerator(
        cpu=chosen.type == "cpu",
        mixed_precision="no" if precision == "fp32" else precision,
        kwargs_handlers=kwargs,
    )


def precision_of(precision: Precision, device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """What ``auto`` is there."""
    if precision != "auto":
        return precision
    return "bf16" if choose_dtype("auto", device) is torch.bfloat16 else "fp32"


def keep_freed_memory() -> None:
    """Has glibc keep the memory of large tensors between steps, instead of handing it back to the
    kernel and taking it again, zeroed page by page. Elsewhere it does nothing.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    for option, value in _MALLOC.items():
        mallopt(option, value)


def _chosen(device: str) -> torch.device:
    if device not in ("auto", "cpu", "cuda"):
        raise TrainingError(f"device {device!r}: choose auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("device 'cuda': there is none here; set device to auto or cpu")
    return choose_device(device)
