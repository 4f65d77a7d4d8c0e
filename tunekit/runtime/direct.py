"""Launch a compiled kernel without looking up again what Triton's own call looks up each time.

Triton's call binds arguments, specialises on them, makes a key and finds the binary. All of that
depends on metadata, which a plan has seen. What is left is the launcher that Triton generated. It
is no public API, so it is used only under versions for which a test on a GPU has compared it with
the ordinary call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import triton
from triton.compiler import CompiledKernel
from triton.runtime.jit import JITFunction

from tunekit.core.config import Config
from tunekit.kernels.plan import (
    Constant,
    Descriptor,
    Group,
    Input,
    Integer,
    Launch,
    Output,
    Real,
    Scalar,
)
from tunekit.runtime.tensor_maps import TensorMaps, beneath_descriptors

PROVEN = ("3.6",)
"""Versions of Triton, but for the last number, that `tests/gpu/test_launch.py` has passed under."""

Direct = Callable[[int, tuple[int, ...], tuple[float, ...]], None]
"""Launches on a stream of the current device: stream, addresses of the inputs and of the outputs,
values of the kernel's scalars in its order.

The caller answers for what the binary was specialised on: device, dtypes, each pointer's alignment,
each integer's value. Launch hooks are not called.
"""


def direct_launch(
    launch: Launch,
    config: Config,
    grid: tuple[int, int, int],
    compiled: Any,
    scalars: Sequence[str],
) -> Direct | None:
    """A direct launch of what an ordinary call has just run; None where it must stay ordinary.

    Args:
        launch: what was run.
        config: the configuration it ran with.
        grid: programs on axes 0, 1, 2.
        compiled: what the ordinary call returned.
        scalars: names of the kernel's scalars, in its order.
    """
    function = launch.function
    if not is_proven() or not isinstance(compiled, CompiledKernel):
        return None
    # A decorator around the function, such as heuristics, decides anew at each call; so does a
    # hook; and the ordinary call refuses a kernel whose globals have changed.
    if type(function) is not JITFunction or function.pre_run_hooks or function.used_global_vals:
        return None
    if launch.heuristics:
        return None
    defaults = {each.name: each.default for each in function.params if each.has_default}
    values: dict[str, Any] = {**defaults, **launch.arguments, **config}
    if any(name not in values for name in function.arg_names):
        return None
    launcher = compiled.run  # loads the binary, so that `function` is there
    if launcher.global_scratch_size or launcher.profile_scratch_size:
        return None
    run, described = launcher.launch, ()
    if any(isinstance(each, Descriptor) for each in launch.arguments.values()):
        run = beneath_descriptors(run)
        described = getattr(compiled.metadata, "tensordesc_meta", None) or ()
        # Without any, as where the hardware has none, tensors are passed instead.
        if run is None or not described or None in described:
            return None
    writer = _Writer(launch, tuple(scalars), iter(described))
    before = [
        *grid, "stream", compiled.function, launcher.launch_cooperative_grid, launcher.launch_pdl,
        None, None, compiled.packed_metadata, None, None, None,
    ]  # fmt: skip
    arguments = [writer.text(values[name]) for name in function.arg_names]
    head = [each if each == "stream" else writer.constant(each) for each in before]
    names: dict[str, Any] = {**writer.constants, "launch": run}
    call = f"lambda stream, pointers, scalars: launch({', '.join([*head, *arguments])})"
    made: Direct = eval(call, names)  # of names and indices alone, all made here
    return made


class _Writer:
    """Writes the arguments of a call once: a loop over slots would be paid for at every call."""

    def __init__(
        self, launch: Launch, scalars: tuple[str, ...], described: Iterator[Mapping[str, Any]]
    ) -> None:
        self._launch, self._scalars, self._described = launch, scalars, described
        self.constants: dict[str, Any] = {}

    def constant(self, value: Any) -> str:
        """A name for a value."""
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def text(self, slot: Any) -> str:
        """An expression for what is in a slot, or for an axis of the configuration."""
        match slot:
            case Input(index):
                return f"pointers[{index}]"
            case Output(index):
                return f"pointers[{len(self._launch.inputs) + index}]"
            case Scalar(name):
                return f"scalars[{self._scalars.index(name)}]"
            case Integer(value) | Real(value) | Constant(value):
                return self.constant(value)
            case Group(slots):
                return f"({''.join(f'{self.text(each)}, ' for each in slots)})"
            case Descriptor(of):
                metas = self._launch.inputs if isinstance(of, Input) else self._launch.outputs
                described = next(self._described)
                return f"*{self.constant(TensorMaps(metas[of.index], described))}({self.text(of)})"
            case value:
                return self.constant(value)


def is_proven() -> bool:
    """Whether launches are direct under the Triton that is installed."""
    return triton.__version__.rpartition(".")[0] in PROVEN
