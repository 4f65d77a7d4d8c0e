"""Kernels that do a misdeed where the grid of one configuration is asked for: blocks of 512."""

from __future__ import annotations

import dataclasses

import misdeeds
import torch
import triton
import triton.language as tl  # noqa: F401 - for the interpreter

from tunekit.kernels.kernel import Kernel, pointwise


@triton.jit
def identity(x):
    return x + 0.0


def _kernel(name: str) -> Kernel:
    kernel = pointwise(name, epilogue=identity, reference=torch.clone)
    plan = kernel.plan

    def faulty(metas, device):
        launch = plan(metas, device)

        def grid(config):
            if config["BLOCK_SIZE"] == 512:
                getattr(misdeeds, name)()
            return launch.grid(config)

        return dataclasses.replace(launch, grid=grid)

    object.__setattr__(kernel, "plan", faulty)
    return kernel


globals().update(
    {
        name: _kernel(name)
        for name, each in vars(misdeeds).items()
        if callable(each) and each.__module__ == misdeeds.__name__
    }
)
