"""A plan from one that a person wrote: run on stand-ins, what it returns checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tunekit.core.config import LAUNCH_OPTIONS
from tunekit.core.device import Device
from tunekit.core.space import Space
from tunekit.errors import KernelError, TunekitError
from tunekit.kernels.draft import Draft, resolve
from tunekit.kernels.jit import beneath, is_jit
from tunekit.kernels.plan import Constant, Launch, Plan, Scalar, TensorMeta
from tunekit.kernels.plan_inputs import Shapes
from tunekit.kernels.source_hash import counts
from tunekit.kernels.stand_ins import stand_in


def tensors_of(function: Callable[..., Any]) -> list[str]:
    """Names of a plan's parameters that are tensors: those without a default.

    Raises:
        KernelError: there is none, or any number of them.
    """
    parameters = inspect.signature(function).parameters.values()
    for each in parameters:
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            raise KernelError(f"the plan takes {each}: name each tensor and each scalar")
    found = [
        each.name for each in parameters if each.default is each.empty and each.name != "device"
    ]
    if not found:
        raise KernelError("the plan takes no tensor: a parameter without a default is one")
    return found


def scalars_of(function: Callable[..., Any], name: str) -> dict[str, float]:
    """A plan's parameters that are scalars, with the values tuning uses.

    Raises:
        KernelError: a default is no number.
    """
    found: dict[str, float] = {}
    for each in inspect.signature(function).parameters.values():
        if each.default is each.empty or each.name == "device":
            continue
        if isinstance(each.default, bool) or not isinstance(each.default, int | float):
            raise KernelError(
                f"{name}: {each.name} has the default {each.default!r:.60}; a parameter with a "
                "default is a run-time scalar, a number; a choice between binaries is a kernel of "
                "its own"
            )
        found[each.name] = float(each.default)
    return found


def plan_from(
    function: Callable[..., Draft],
    name: str,
    shapes: Shapes | None,
    sizes: tuple[str, ...],
    space: Callable[[], Space],
) -> Plan:
    """The plan that runs a person's on stand-ins.

    Args:
        function: theirs.
        name: the kernel's.
        shapes: of each tensor, in names of sizes and numbers.
        sizes: the names.
        space: the search space, for what its axes have to be.
    """
    tensors, scalars = tensors_of(function), scalars_of(function, name)
    takes_device = "device" in inspect.signature(function).parameters
    checked: list[bool] = []  # once: it reads source

    def plan(inputs: Sequence[TensorMeta], device: Device) -> Launch:
        if len(inputs) != len(tensors):
            raise KernelError(
                f"{name} takes {len(tensors)} tensors ({', '.join(tensors)}), got {len(inputs)}"
            )
        dims = _unified(name, shapes, tensors, inputs)
        stand_ins = [stand_in(meta) for meta in inputs]
        given: dict[str, Any] = {each: Scalar(each) for each in scalars}
        if takes_device:
            given["device"] = device
        draft = _drafted(function, stand_ins, given, name)
        if not isinstance(draft, Draft):
            raise KernelError(
                f"{name}: the plan returns {type(draft).__name__}, not tunekit.launch(…)"
            )
        launch = resolve(draft, name, stand_ins, inputs, dims)
        if not checked:
            _check_covered(name, function, launch)
            checked.append(True)
        _check_dims(name, launch, sizes)
        _check_axes(name, launch, space())
        return launch

    return plan


def _drafted(
    function: Callable[..., Draft], tensors: Sequence[Any], given: Mapping[str, Any], name: str
) -> Any:
    """What a person's plan returns.

    Raises:
        KernelError: it raised something, said with the line.
    """
    try:
        return function(*tensors, **given)
    except TunekitError:
        raise
    except Exception as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            if trace.tb_next.tb_frame.f_code.co_filename != function.__code__.co_filename:
                break
            trace = trace.tb_next
        where = "" if trace is None else f", line {trace.tb_lineno}"
        shapes = ", ".join(str(tuple(each.shape)) for each in tensors)
        raise KernelError(
            f"{name}: the plan{where} fails on tensors of shape {shapes}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _unified(
    name: str, shapes: Shapes | None, tensors: Sequence[str], inputs: Sequence[TensorMeta]
) -> dict[str, int]:
    """The sizes by name, as the tensors have them; of the first one's dims without names.

    Raises:
        KernelError: a tensor has another shape than `shapes` says.
    """
    if shapes is None:
        return {f"size{axis}": size for axis, size in enumerate(inputs[0].shape)}
    dims: dict[str, int] = {}
    for tensor, meta in zip(tensors, inputs, strict=True):
        wanted = tuple(shapes[tensor])
        said = f"({', '.join(map(str, wanted))})"
        if len(wanted) != len(meta.shape):
            raise KernelError(f"{name}: {tensor} has shape {meta.shape}, expected {said}")
        for size, got in zip(wanted, meta.shape, strict=True):
            expected = dims.setdefault(size, got) if isinstance(size, str) else size
            if expected != got:
                where = f", where {size} is {expected}" if isinstance(size, str) else ""
                raise KernelError(
                    f"{name}: {tensor} has shape {meta.shape}, expected {said}{where}"
                )
    return dims


def _check_covered(name: str, function: Callable[..., Draft], launch: Launch) -> None:
    """What runs is what the hash covers, or rows of other code would be served.

    Raises:
        KernelError: it is not.
    """
    constants = (slot.value for slot in launch.arguments.values() if isinstance(slot, Constant))
    for each in (launch.function, *filter(is_jit, constants)):
        if not counts(function, each):
            raise KernelError(
                f"{name}: the plan launches {each.fn.__name__} without naming it: use a variable "
                "of its module, or of the function it is defined in, not an attribute of an object"
            )


def _check_dims(name: str, launch: Launch, sizes: tuple[str, ...]) -> None:
    if missing := [each for each in sizes if each not in launch.dims]:
        raise KernelError(
            f"{name}: the launch has no size {', '.join(missing)}: name the shapes by shapes=, or "
            f"give launch(…, dims={{{', '.join(f'{each!r}: …' for each in sizes)}}})"
        )


def _check_axes(name: str, launch: Launch, space: Space) -> None:
    """Every axis goes somewhere, and everything the function needs comes from somewhere.

    Raises:
        KernelError: it does not.
    """
    function = beneath(launch.function)
    names, axes = function.arg_names, set(space.axis_names)
    if unknown := [each for each in space.axis_names if each not in (*names, *LAUNCH_OPTIONS)]:
        raise KernelError(
            f"{name}: axis {unknown[0]} of the space is no argument of {function.fn.__name__}"
        )
    if twice := [each for each in launch.arguments if each in axes]:
        raise KernelError(f"{name}: {twice[0]} is an axis of the space, and the plan gives it too")
    defaults = inspect.signature(function.fn).parameters
    for each in names:
        known = each in launch.arguments or each in axes or each in launch.heuristics
        if not known and defaults[each].default is inspect.Parameter.empty:
            raise KernelError(
                f"{name}: {function.fn.__name__} needs {each}, which neither the plan gives nor an "
                "axis of the space"
            )
