"""What ``auto`` is of devices and dtypes, and the switch of the tests."""

import pytest
import torch

from model.scorer import AUTO_DTYPE, choose_device, choose_dtype

CPU = torch.device("cpu")


def test_the_device_auto_is_cuda_where_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_auto_is_one_that_the_device_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(AUTO_DTYPE, raising=False)
    assert choose_dtype("auto", CPU) in {torch.float32, torch.bfloat16}


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_tests_choose_what_auto_is_and_nothing_else(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(AUTO_DTYPE, name)
    assert choose_dtype("auto", CPU) is getattr(torch, name)
    assert choose_dtype("float32", CPU) is torch.float32
    assert choose_dtype("bfloat16", CPU) is torch.bfloat16


@pytest.mark.parametrize("name", ["", "auto", "float16"])
def test_another_name_in_the_switch_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(AUTO_DTYPE, name)
    with pytest.raises(ValueError, match=f"{AUTO_DTYPE}='{name}': choose float32 or bfloat16"):
        choose_dtype("auto", CPU)
