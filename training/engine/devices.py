"""The device, its precision and the processes that share the work, by Hugging Face accelerate.

``torchrun --nproc-per-node N --no-python agiqa train RECIPE`` starts N processes.
"""

from typing import Any, Literal

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.state import AcceleratorState

from model.scorer import choose_device, choose_dtype
from training.errors import TrainingError

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
    if precision == "auto":
        native = choose_dtype("auto", chosen) is torch.bfloat16
        precision = "bf16" if native else "fp32"
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


def _chosen(device: str) -> torch.device:
    if device not in ("auto", "cpu", "cuda"):
        raise TrainingError(f"device {device!r}: choose auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("device 'cuda': there is none here; set device to auto or cpu")
    return choose_device(device)
