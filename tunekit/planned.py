"""`@tunekit.kernel`: any `@triton.jit` function, from a plan of a few lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._compile import _disable_dynamo
from torch.compiler import is_dynamo_compiling

from tunekit.core.problem import DTYPES, parse_dtype
from tunekit.errors import KernelError
from tunekit.kernels.draft import Draft
from tunekit.kernels.from_plan import plan_from, scalars_of, tensors_of
from tunekit.kernels.inline_space import space_from
from tunekit.kernels.interpreted import mend_bfloat16
from tunekit.kernels.kernel import CheckShape, Kernel, Tolerance
from tunekit.kernels.plan import Launch, TensorMeta
from tunekit.kernels.plan_inputs import MakeInputs, Shapes, draw_from, metas_from, size_names
from tunekit.runtime.outputs import launched_as_before, results_of

_Tolerances = tuple[float, float] | Mapping[str, tuple[float, float]]


@dataclass(frozen=True, eq=False)
class PlannedKernel(Kernel):
    """A kernel that launches by being called."""

    def __call__(self, *inputs: torch.Tensor, **scalars: float) -> Any:
        """Launch the configuration that such tensors are served.

        Args:
            inputs: the plan's tensors.
            scalars: of the plan's scalars those that are not to have their defaults.

        Returns:
            The result, or a tuple of the results; of one in place the input itself.

        Raises:
            KernelError: the plan refuses them, or autograd would have to follow the call.
        """
        if is_dynamo_compiling():
            return _untraced(self, inputs, scalars)
        return _called(self, inputs, scalars)


def _called(
    kernel: PlannedKernel, inputs: Sequence[torch.Tensor], scalars: Mapping[str, float]
) -> Any:
    values = kernel.scalar_values(scalars) if scalars else kernel.scalars
    results = launched_as_before(kernel, inputs, tuple(values.values()))
    if results is None:
        results = results_of(kernel, inputs, values)
    return results[0] if len(results) == 1 else results


_untraced = _disable_dynamo(_called)
"""What torch.compile calls instead of looking into it. PyTorch's public name for it would import
its compiler here."""


def kernel(
    *,
    space: Any,
    reference: Callable[..., Any] | None = None,
    shapes: Shapes | None = None,
    inputs: MakeInputs | None = None,
    dtypes: Sequence[str] = DTYPES,
    tolerance: _Tolerances | None = None,
    check_shape: CheckShape | None = None,
    flops: Callable[..., float] | None = None,
    name: str | None = None,
) -> Callable[[Callable[..., Draft]], PlannedKernel]:
    """Make a kernel of a plan: a function from tensors without memory to `tunekit.launch(…)`.

    The parameters of the plan are its tensors, then its run-time scalars, which have a number as
    default; a parameter `device` is given the GPU's facts (`tunekit.core.device.Device`).

    Args:
        space: what is searched: a mapping from axes to values, of which the first is the default;
            a mapping as a space file has it; the name of a shipped space or the path of a file.
        reference: the same in eager PyTorch, `reference(*tensors, **scalars)`: a tensor, or a tuple
            of one for each result. It judges in float64. Without one, configurations are compared
            with the default one.
        shapes: of each tensor, in names of sizes and numbers: `{"x": ("rows", "columns")}`. The
            names become `--dim rows=…`; tuning draws random tensors of these shapes, and a call
            with others is refused.
        inputs: makes the tensors to tune with, `inputs(**sizes, dtype=…, device=…)`, or
            `inputs(shape, dtype=…, device=…)` without names; also asked on PyTorch's device `meta`.
        dtypes: those to tune in, by name.
        tolerance: what a result may differ from the reference by, (relative, absolute); or one for
            each dtype of a result. By default a unit in the last place in 16 bits, 64 in float32,
            of the element or of the root mean square of the result, whichever is more.
        check_shape: from the shape tuned, a configuration and an element count, a small shape at
            which each configuration is tried first; by default one is found.
        flops: floating-point operations of a launch, from the sizes by name.
        name: what it is called; by default as the plan.

    Raises:
        KernelError: a scalar's default is no number, or `shapes` names other tensors.
        SpaceError: the space is none.
    """
    allowed = _tolerance(tolerance)

    def decorate(function: Callable[..., Draft]) -> PlannedKernel:
        mend_bfloat16()
        own = name or function.__name__
        tensors = tensors_of(function)
        if shapes is not None and list(shapes) != tensors:
            raise KernelError(
                f"{own}: shapes= names {', '.join(shapes) or 'nothing'}, and the tensors of the "
                f"plan are {', '.join(tensors) or 'none'}, in this order"
            )
        if not dtypes:
            raise KernelError(f"{own}: dtypes= is empty: name those to tune in")
        sizes = size_names(shapes, inputs)
        made = PlannedKernel(
            name=own,
            plan=plan_from(function, own, shapes, sizes, lambda: made.load_space()),
            reference=reference,
            space=space_from(space, own),
            input_count=len(tensors),
            scalars=scalars_of(function, own),
            functions=(function,),
            check_shape=check_shape,
            metas=metas_from(tensors, shapes, sizes, inputs),
            sizes=sizes,
            dtypes=tuple(parse_dtype(each) for each in dtypes),
            draw=draw_from(sizes, inputs),
            tolerance=allowed,
            flops=None if flops is None else lambda dims: flops(**dims),
            summary=(function.__doc__ or "").strip().partition("\n")[0],
        )
        return made

    return decorate


def _tolerance(
    given: _Tolerances | None,
) -> Callable[[Launch, TensorMeta], Tolerance | None] | None:
    if given is None:
        return None
    if isinstance(given, Mapping):
        known = {parse_dtype(dtype): Tolerance(*pair) for dtype, pair in given.items()}
        return lambda launch, meta: known.get(meta.dtype)
    every = Tolerance(*given)
    return lambda launch, meta: every
