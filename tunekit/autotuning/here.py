"""The GPU that a call runs on."""

from __future__ import annotations

import torch

from tunekit.gpu import PresentGpu, device_at, present_gpu


def gpu_here() -> PresentGpu | None:
    """The current one; None where this process has none, as in Triton's interpreter."""
    if not torch.cuda.is_available() or is_interpreting():
        return None
    return present_gpu(torch.cuda.current_device())


def device_here() -> str:
    """The slug of the current GPU's model, empty where there is none."""
    if not torch.cuda.is_available() or is_interpreting():
        return ""
    return device_at(torch.cuda.current_device()).slug


def is_interpreting() -> bool:
    """Whether kernels run in Triton's interpreter."""
    import triton

    return bool(triton.knobs.runtime.interpret)


def is_capturing() -> bool:
    """Whether the current stream is being captured in a CUDA graph."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
