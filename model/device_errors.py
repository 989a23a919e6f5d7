"""What an error of torch means for those who go on afterwards: less memory, a broken device, or
just this call. Types alone do not tell; the texts are those of torch 2.11 to 2.15.
"""

import torch

# torch types only what an accelerator's caching allocator refuses. The CPU's allocator, that of
# MPS, CUDA outside of the cache, cuBLAS and cuDNN raise a plain RuntimeError or AcceleratorError.
_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "status_alloc_failed",
    "std::bad_alloc",
)
_DEVICE_ERROR = (
    *("cuda error", "cublas error", "cudnn error", "cusolver error", "cufft error"),
    *("cublas_status_", "cudnn_status_", "hip error", "nccl error"),
)
# After these every further call fails in this process, until the driver is asked by another one.
_STICKY = (
    "illegal memory access",
    "device-side assert",
    "unspecified launch failure",
    "misaligned address",
    "illegal instruction",
    "invalid program counter",
    "invalid address space",
    "hardware stack error",
    "launch timed out",
    "uncorrectable",
    "device is unavailable",
    "no longer available",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may succeed where this error came."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and _names(error, _OUT_OF_MEMORY)


def is_device_error(error: BaseException) -> bool:
    """Whether the device itself failed, so that it may be of no use from now on."""
    if is_out_of_memory(error):
        return False
    if isinstance(error, torch.AcceleratorError):
        return True
    return isinstance(error, RuntimeError) and _names(error, _DEVICE_ERROR)


def is_sticky(error: BaseException) -> bool:
    """Whether it is a device error that is known to make every later call fail as well."""
    return is_device_error(error) and _names(error, _STICKY)


def device_works(device: torch.device) -> bool:
    """Whether a tiny operation on the device gives the right result."""
    try:
        return torch.full((8,), 2.0, device=device).square().sum().item() == 32
    except (RuntimeError, MemoryError):
        return False


def _names(error: BaseException, parts: tuple[str, ...]) -> bool:
    text = str(error).lower()
    return any(part in text for part in parts)
