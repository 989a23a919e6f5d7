import pytest
import torch

from model.scorer import choose_dtype
from training.engine.devices import Precision, accelerator_for, processes
from training.errors import TrainingError


def test_the_cpu_is_one_process() -> None:
    alone = processes("cpu")
    assert alone.is_main_process
    assert alone.num_processes == 1
    assert alone.device.type == "cpu"


def test_runs_of_one_process_may_differ_in_precision() -> None:
    precisions: tuple[Precision, ...] = ("fp32", "bf16", "fp32")
    chosen = [accelerator_for("cpu", precision).mixed_precision for precision in precisions]
    assert chosen == ["no", "bf16", "no"]


def test_auto_is_bf16_where_it_is_multiplied_natively() -> None:
    native = choose_dtype("auto", torch.device("cpu")) is torch.bfloat16
    assert accelerator_for("cpu", "auto").mixed_precision == ("bf16" if native else "no")


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(TrainingError, match=r"fp16 needs a GPU: set schedule\.precision"):
        accelerator_for("cpu", "fp16")


@pytest.mark.parametrize("device", ["tpu", "cuda:7", "", "meta"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(TrainingError, match="choose auto, cpu or cuda"):
        accelerator_for(device, "fp32")


def test_a_missing_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainingError, match="set device to auto or cpu"):
        processes("cuda")
