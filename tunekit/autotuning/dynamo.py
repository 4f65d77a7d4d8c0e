"""Calls that torch.compile makes and does not look into."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch


def hide_from_dynamo(function: Any) -> None:
    """Let torch.compile call a function, and what that calls, without tracing any of it.

    As `torch.compiler.disable` does, which would cost each call a microsecond.
    """
    function._torchdynamo_disable = True
    function._torchdynamo_disable_msg = "tunekit looks up and launches a configuration"
    frames = torch._C._dynamo.eval_frame
    with suppress(AttributeError):  # a PyTorch that names it otherwise traces what it can
        skip = frames._FrameAction.SKIP
        frames.set_code_exec_strategy(function.__code__, frames._FrameExecStrategy(skip, skip))
