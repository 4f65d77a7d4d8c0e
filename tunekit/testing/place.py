"""Where kernels run in this process: on a GPU, or in Triton's interpreter."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from tunekit.core.config import Config
from tunekit.core.device import DEVICES, Device
from tunekit.errors import UsageError
from tunekit.evaluate.trial import Run
from tunekit.gpu import device_at, gpu_count
from tunekit.kernels.plan import Launch
from tunekit.runtime.call import INTERPRETED

INTERPRETED_AS = dataclasses.replace(DEVICES["rtx4090"], sm_count=1, max_blocks_per_sm=2)
"""The GPU that the interpreter stands for: two programs fill it, so that a grid-stride loop goes
round at a small size too."""


@dataclass(frozen=True)
class Place:
    """Where a kernel is checked.

    Attributes:
        name: in words.
        device: the facts that plans are given.
        tensors: PyTorch's name of where tensors are.
    """

    name: str
    device: Device
    tensors: str

    @property
    def interprets(self) -> bool:
        """Whether it is Triton's interpreter."""
        return self.tensors == "cpu"

    def current(self) -> AbstractContextManager[object]:
        """Makes the GPU the current one for as long as it lasts."""
        return nullcontext() if self.interprets else torch.cuda.device(self.tensors)

    def runs(self, launch: Launch, config: Config, scalars: dict[str, float]) -> Run:
        """What launches a configuration, and on a GPU waits for it."""

        def run(inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> None:
            arguments = launch.bind(inputs, outputs, scalars, config)
            self.quietly(lambda: launch.function[launch.grid(config)](**arguments))

        return run

    def quietly(self, task: Callable[[], object]) -> None:
        """Do it, and wait; NumPy, in which the interpreter computes, warns of no inf or nan."""
        if not self.interprets:
            task()
            torch.cuda.synchronize()
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            task()


def place_of(device: str | None) -> Place:
    """Where `device` is; by default the current GPU if kernels are compiled, else the interpreter.

    Raises:
        UsageError: kernels cannot run there in this process.
    """
    if INTERPRETED:
        if device not in (None, "cpu"):
            raise UsageError(
                f"device {device!r:.60}: kernels run in Triton's interpreter here, on the CPU; "
                "unset TRITON_INTERPRET to check them on a GPU"
            )
        return Place("in Triton's interpreter", INTERPRETED_AS, "cpu")
    kind, _, number = (device or "cuda").partition(":")
    if kind == "cpu" or (device is None and not gpu_count()):
        raise UsageError(
            "a kernel is checked on a GPU, or in Triton's interpreter, which has to be asked for "
            "before Triton is imported: run TRITON_INTERPRET=1 pytest …"
        )
    if kind != "cuda" or not (number.isdigit() or not number):
        raise UsageError(f"device {device!r:.60}: expected cuda, cuda:1 and so on, or cpu")
    index = int(number) if number else (torch.cuda.current_device() if gpu_count() else 0)
    if index >= gpu_count():
        raise UsageError(f"device cuda:{index}: this machine has {gpu_count()} CUDA GPUs")
    facts = device_at(index)
    return Place(f"on cuda:{index} ({facts.slug})", facts, f"cuda:{index}")
