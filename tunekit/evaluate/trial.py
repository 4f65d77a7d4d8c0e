"""Try a launch at a small size: twice in the same tensors, between guards, on other values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from tunekit.evaluate.guards import FINITE, NOT_A_NUMBER, Buffers, prepare
from tunekit.evaluate.inputs import draw_for
from tunekit.evaluate.judge import Judge
from tunekit.evaluate.tensors import clone_of, differing
from tunekit.evaluate.verify import RunDefault
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Launch

NO_REFERENCE = "compared with the default configuration: the kernel has no reference"
"""The reason of what is right as far as that goes."""
_OTHER_SEED = 7919
"""Between the values of the first launch and those of the second."""

Run = Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor]], None]
"""Launches the configuration: inputs, and the outputs it fills."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found.

    Attributes:
        error: largest error in units of what is allowed.
        fault: what is wrong, as the reason of a `wrong` evaluation; empty if nothing.
    """

    error: float
    fault: str = ""


@dataclass(frozen=True)
class Trial:
    """One problem at a small size, to be tried.

    Attributes:
        kernel: whose reference judges.
        launch: of the small size.
        shape: that size.
        dtype: what is tuned.
        scalars: their values.
        where: for the reason, such as `at 1000`.
        run: launches the configuration.
        run_default: launches the default one, for a kernel without a reference.
    """

    kernel: Kernel
    launch: Launch
    shape: tuple[int, ...]
    dtype: str
    scalars: Mapping[str, float]
    where: str
    run: Run
    run_default: RunDefault | None = None

    def twice(self, seed: int, device: str) -> Checked:
        """Launch in fresh tensors, then again in the same with other values, and judge both.

        The outputs hold nan before the first launch and finite values before the second, so what is
        not written shows, what is right only while the output is nan, what keeps a result by the
        address of its tensors, and what is right once.

        Args:
            seed: of the inputs.
            device: `cpu` or `cuda`.
        """
        buffers = Buffers.of(self.launch, device)
        draw_for(self.kernel, buffers.inputs, self.shape, self.dtype, seed, check=True)
        first = self.once(buffers, NOT_A_NUMBER)
        if first.fault:
            return first
        draw_for(self.kernel, buffers.inputs, self.shape, self.dtype, seed + _OTHER_SEED)
        second = self.once(buffers, FINITE)
        if second.fault:
            fault = f"right at first, but launched again on other values it {second.fault}"
            return Checked(second.error, fault)
        return Checked(max(first.error, second.error))

    def once(self, buffers: Buffers, poisoned: int) -> Checked:
        """Launch in buffers whose inputs are filled, their outputs full of a byte, and judge it."""
        inputs, outputs = buffers.inputs, buffers.outputs
        judge = Judge.of(
            self.kernel, self.launch, inputs, self.scalars, self.run_default, keep=False
        )
        before = [clone_of(x) for x in inputs]
        prepare(self.launch, inputs, outputs, poisoned)
        self.run(inputs, outputs)
        error = judge.error_of(outputs)
        if beside := buffers.damage():
            return Checked(error, f"{beside} ({self.where})")
        for index in differing(zip(inputs, before, strict=True)):
            return Checked(error, f"changes input {index} ({self.where})")
        if error > 1.0:
            return Checked(error, judge.describe(outputs, error, poisoned, self.where))
        return Checked(error)
