import pytest
import torch

from model.device_errors import device_works, is_device_error, is_out_of_memory, is_sticky

_ABSURD = 1 << 60


def refused_by_the_allocator() -> RuntimeError:
    with pytest.raises(RuntimeError) as refusal:
        torch.empty(_ABSURD, dtype=torch.uint8)
    return refusal.value


OUT_OF_MEMORY = {
    "cpu-allocator": refused_by_the_allocator(),
    "cuda-cache": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cuda-outside": torch.AcceleratorError("CUDA error: out of memory"),
    "cublas": RuntimeError(
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    ),
    "cudnn": RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 8 GB, max allowed: 9 GB)."),
    "c++": RuntimeError("std::bad_alloc"),
    "python": MemoryError(),
}
STICKY = {
    "address": torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    "assert": torch.AcceleratorError("CUDA error: device-side assert triggered"),
    "launch": RuntimeError("CUDA error: unspecified launch failure"),
    "ecc": torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
}
DEVICE = {
    "unknown": torch.AcceleratorError("CUDA error: unknown error"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
    "cudnn": RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
}
OTHER = {
    "kernel": RuntimeError("no kernel for this"),
    "value": ValueError("out of memory"),
    "shapes": RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)"),
}


@pytest.mark.parametrize("error", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_a_lack_of_memory_is_known_from_every_allocator(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_device_error(error)
    assert not is_sticky(error)


@pytest.mark.parametrize("error", STICKY.values(), ids=STICKY)
def test_an_error_after_which_all_calls_fail_is_known(error: Exception) -> None:
    assert is_sticky(error)
    assert is_device_error(error)
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("error", DEVICE.values(), ids=DEVICE)
def test_a_device_error_of_unknown_reach_is_not_taken_for_a_lasting_one(error: Exception) -> None:
    assert is_device_error(error)
    assert not is_sticky(error)


@pytest.mark.parametrize("error", OTHER.values(), ids=OTHER)
def test_other_errors_are_taken_for_neither(error: Exception) -> None:
    assert not is_out_of_memory(error)
    assert not is_device_error(error)


def test_a_device_that_computes_works_and_one_that_can_not_does_not() -> None:
    assert device_works(torch.device("cpu"))
    assert not device_works(torch.device("meta"))
