"""What of timing needs no GPU; tests/gpu has the rest."""

from __future__ import annotations

import torch

from tunekit.evaluate.timer import settle


def test_settling_needs_no_gpu_in_use() -> None:
    was_initialized = torch.cuda.is_initialized()
    settle()
    assert torch.cuda.is_initialized() == was_initialized
